-- Ends the session: one caller gets the streams that were bound.
if gone() then return { 'gone' } end
local answer = { 'closed' }
local fields = redis.call('HGETALL', session)
for i = 1, #fields, 2 do
  local name = string.match(fields[i], '^s:(.*)$')
  if name then
    local own = session .. ':' .. name
    local node = redis.call('HGET', own .. ':b', 'node')
    if node then
      answer[#answer + 1] = name
      answer[#answer + 1] = node
      answer[#answer + 1] = redis.call('HGET', own .. ':b', 'fence')
    end
    redis.call('DEL', own, own .. ':b')
  end
end
redis.call('DEL', session)
return answer
