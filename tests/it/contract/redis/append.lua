-- ARGV: payload, producer, sequence, request or '', fence, last, upstream event, post, events_max.
if gone() then return { 'gone' } end
local earlier = redis.call('HGET', stream, 'p:' .. ARGV[2])
local node = redis.call('HGET', stream, 'node') or ''
local held = redis.call('HGET', stream, 'fence') or ''
if earlier then
  earlier = cjson.decode(earlier)
  if earlier.sequence == ARGV[3] then
    return { 'logged', earlier.number, earlier.previous, node, held, earlier.ended }
  end
end
local post = ARGV[8] == '1'
if post and tonumber(redis.call('HGET', stream, 'open') or '0') <= 0 then return { 'ended' } end
if ARGV[4] ~= '' then
  local record = redis.call('HGET', session, 'r:' .. ARGV[4])
  if not record then return { 'stale' } end
  record = cjson.decode(record)
  if record.fence ~= ARGV[5] or record.deadline <= now then return { 'stale' } end
  if ARGV[7] ~= '' then
    record.upstream = ARGV[7]
    redis.call('HSET', session, 'r:' .. ARGV[4], cjson.encode(record))
  end
end
local previous = redis.call('HGET', stream, 'top')
if not previous then
  previous = '0-0'
  redis.call('HSET', stream, 'trimmed', previous)
  redis.call('HSET', session, 's:' .. string.match(stream, '}:(.*):b$'), '')
end
local number = following(previous)
redis.call('XADD', log, number, 'd', ARGV[1])
redis.call('HSET', stream, 'top', number)
while redis.call('XLEN', log) > tonumber(ARGV[9]) do
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1][1]
  redis.call('XDEL', log, oldest)
  redis.call('HSET', stream, 'trimmed', oldest)
end
if node == '' then redis.call('HSETNX', stream, 'unheld', previous) end
local ended = '0'
if ARGV[6] == '1' and ARGV[4] ~= '' then
  redis.call('HDEL', session, 'r:' .. ARGV[4])
  if redis.call('HINCRBY', stream, 'open', -1) <= 0 and post then ended = '1' end
end
local memo = { sequence = ARGV[3], number = number, previous = previous, ended = ended }
redis.call('HSET', stream, 'p:' .. ARGV[2], cjson.encode(memo))
return { 'logged', number, previous, node, held, ended }
