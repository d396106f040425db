-- ARGV: runner, lifetime ms, bind, request... All records or none.
if gone() then return { 'gone' } end
local name = string.match(stream, '}:(.*):b$')
local known = {}
for i = 4, #ARGV do
  local record = redis.call('HGET', session, 'r:' .. ARGV[i])
  if record then
    record = cjson.decode(record)
    if record.deadline > now then
      if record.runner ~= ARGV[1] or record.stream ~= name then return { 'duplicate', ARGV[i] } end
      known[#known + 1] = record.fence
    end
  end
end
local function answer(fence)
  local node, held = redis.call('HGET', stream, 'node'), redis.call('HGET', stream, 'fence')
  return { 'recorded', fence, node or '', held or '', redis.call('HGET', stream, 'top') or '0-0' }
end
if #known == #ARGV - 3 then return answer(known[1]) end
local fence = fence_after(redis.call('HGET', stream, 'fence'))
for i = 4, #ARGV do
  local record = { stream = name, runner = ARGV[1], fence = fence, deadline = now + tonumber(ARGV[2]) }
  redis.call('HSET', session, 'r:' .. ARGV[i], cjson.encode(record))
end
if redis.call('HEXISTS', stream, 'top') == 0 then
  local top = text(now) .. '-0'
  redis.call('HSET', stream, 'top', top, 'trimmed', top)
  redis.call('HSET', session, 's:' .. name, '')
end
redis.call('HINCRBY', stream, 'open', #ARGV - 3)
if ARGV[3] == '1' then redis.call('HSET', stream, 'node', ARGV[1], 'fence', fence) end
return answer(fence)
