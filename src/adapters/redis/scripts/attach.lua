-- ARGV: stream, node, position or '', fence to re-assert or '', not after or ''.
local no = refused()
if no then return no end
if arg(5) ~= '' and tonumber(arg(5)) < now then return { 'late' } end
age()
if redis.call('HEXISTS', B, 'top') == 0 then
  if is_post(name) then return { 'unknown' } end
  ensure()
end
local book = redis.call('HMGET', B, 'top', 'trimmed', 'node', 'fence', 'newest', 'unheld', 'ended', 'upstream')
local top, trimmed, node, held, newest = book[1], book[2], book[3], book[4], book[5]
local position, own = arg(3), arg(4)
-- One that was released is refused as well: the request to re-assert it came late.
if own ~= '' and newest and tonumber(newest) >= tonumber(own) and not (node == arg(2) and held == own) then
  return { 'superseded', newest }
end
local start = position
if position == '' then
  start = book[6] or top
  if book[6] and above(trimmed, start) then start = trimmed end
elseif position ~= top and position ~= trimmed and #redis.call('XRANGE', L, position, position) == 0 then
  local below = redis.call('XREVRANGE', L, position, '-', 'COUNT', 1)[1]
  return { 'lost', top, below and below[1] or trimmed }
end
if book[7] and start == top then return { 'ended' } end
local fence = own
if own == '' then
  fence = draw_fence()
elseif tonumber(own) > (tonumber(redis.call('HGET', S, 'fence')) or 0) then
  redis.call('HSET', S, 'fence', own)
end
redis.call('HSET', B, 'node', arg(2), 'fence', fence, 'newest', fence)
redis.call('HDEL', B, 'unheld')
if not is_post(name) then keep_stream() end
local events = {}
for _, entry in ipairs(redis.call('XRANGE', L, '(' .. start, '+')) do
  events[#events + 1] = entry[1]
  events[#events + 1] = entry[2][2]
end
local records = {}
for _, record in ipairs(running(name)) do records[#records + 1] = cjson.encode(record) end
return { 'bound', fence, start, book[7] and '1' or '0', node or '', held or '', newest or '', book[8] or '',
  events, records }
