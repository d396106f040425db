-- ARGV: stream, runner, lifetime, bind, upstream's event id, request... All records or none.
local no = refused()
if no then return no end
local runner, lifetime = arg(2), tonumber(arg(3))
sweep()
age()
local function answer(fence)
  local held = redis.call('HMGET', B, 'node', 'fence', 'top')
  return { 'recorded', fence, held[1] or '', held[2] or '', held[3] }
end
local first = record_of(arg(6))
local again = first ~= nil
for index = 6, #ARGV - 5 do
  local record = record_of(arg(index))
  again = again and record and record.stream == name and record.runner == runner and record.fence == first.fence
end
if again then return answer(first.fence) end
-- A POST's stream is begun once: this one comes late.
local late = is_post(name) and redis.call('HEXISTS', B, 'top') == 1
local named = {}
for index = 6, #ARGV - 5 do
  local request = arg(index)
  if late or named[request] or record_of(request) then return { 'duplicate', request } end
  named[request] = true
end
local fence = draw_fence()
for request in pairs(named) do
  -- One out of time may have had the same id.
  local over = redis.call('HGET', R, request)
  over = over and cjson.decode(over)
  if over and over.stream == name then give_up(over.fence) end
  local record = { stream = name, runner = runner, fence = fence, deadline = now + lifetime }
  if arg(5) ~= '' then record.upstream = arg(5) end
  keep_record(request, record)
end
redis.call('PEXPIRE', R, keep + lifetime)
redis.call('PEXPIRE', Z, keep + lifetime)
ensure(now + math.max(lifetime, ttl))
if arg(4) == '1' then
  redis.call('HSET', B, 'node', runner, 'fence', fence, 'newest', fence)
  redis.call('HDEL', B, 'unheld')
end
keep_stream(lifetime)
trim_session()
return answer(fence)
