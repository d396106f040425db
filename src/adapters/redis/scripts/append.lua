-- ARGV: stream, payload, producer, sequence, request or '', its fence, last, upstream's event id or '',
-- the fence under which the upstream's stream is read or '', the upstream's event that it follows or ''.
local no = refused()
if no then return no end
age()
local payload, producer, request, last, upstream = arg(2), 'p:' .. arg(3), arg(5), arg(7) == '1', arg(8)
local record = request ~= '' and record_of(request) or nil
if record and (record.stream ~= name or record.fence ~= arg(6)) then record = nil end
-- Without a record: whether that may have ended or been taken over, or was forgotten by a failover.
local function unrecorded()
  local fence, known = tonumber(arg(6)), redis.call('HMGET', B, 'taken', 'dropped')
  local ended = redis.call('HEXISTS', R, request) == 1 or tonumber(known[1] or '0') >= fence
    or tonumber(known[2] or '0') >= fence
  return { (is_post(name) or ended) and 'stale' or 'forgotten' }
end
if redis.call('HEXISTS', B, 'top') == 0 then
  if request ~= '' then return unrecorded() end
  if is_post(name) then return { 'ended' } end
  ensure()
end
local book = redis.call('HMGET', B, 'top', 'node', 'fence', 'ended', producer, 'producers', 'newest',
  'upstream')
local function logged(number, previous)
  local top = redis.call('HGET', B, 'top')
  local is_last = redis.call('HEXISTS', B, 'ended') == 1 and number == top
  return { 'logged', number, previous, book[2] or '', book[3] or '', is_last and '1' or '0' }
end
if book[5] then
  local sequence, number, previous = string.match(book[5], '^(%d+) (%S+) (%S+)$')
  if tonumber(arg(4)) <= tonumber(sequence) then return logged(number, previous) end
end
if book[4] then return { 'ended' } end
if request ~= '' and not record then return unrecorded() end
if arg(9) ~= '' and tonumber(book[7] or '0') > tonumber(arg(9)) then return { 'stale' } end
if arg(9) ~= '' and (book[8] or '') ~= arg(10) then return { 'stale' } end
local previous = book[1]
if not book[2] then redis.call('HSETNX', B, 'unheld', previous) end
if request == '' and upstream ~= '' then redis.call('HSET', B, 'upstream', upstream) end
local number = following(previous)
local cost = #payload + EVENT_COST
redis.call('HSET', B, 'top', number)
redis.call('XADD', L, number, 'd', payload)
redis.call('HINCRBY', B, 'bytes', cost)
redis.call('HINCRBY', S, 'bytes', cost)
if record then
  if last then
    redis.call('HDEL', R, request)
  elseif upstream ~= '' then
    record.upstream = upstream
    keep_record(request, record)
  end
end
local still = is_post(name) and #running(name) or 0
-- Of producers, the least recent are forgotten; each running request has one of its own.
local known = {}
for id in string.gmatch(book[6] or '', '%S+') do
  if id ~= producer then known[#known + 1] = id end
end
while #known >= 64 + still do
  local oldest = table.remove(known, 1)
  local ms = string.match(redis.call('HGET', B, oldest) or '', ' (%d+)%-')
  redis.call('HDEL', B, oldest)
  -- Until then a repeated last answer may not be known for what it is.
  if ms then redis.call('HSET', B, 'dropped', text(math.max(tonumber(redis.call('HGET', B, 'dropped') or '0'), ms + 1000))) end
end
known[#known + 1] = producer
redis.call('HSET', B, producer, arg(4) .. ' ' .. number .. ' ' .. previous, 'producers', table.concat(known, ' '))
if is_post(name) then
  if last and still == 0 then
    redis.call('HSET', B, 'ended', text(now))
    redis.call('ZADD', Z, text(now + ttl), name)
  end
else
  keep_stream()
end
trim()
return logged(number, previous)
