-- The sessions there are, on a slot of their own. It may lag behind the sessions, but never lacks one.
-- KEYS: ids (zset, by name), due (zset: id by when to look at it). ARGV: what, then its own.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local what = ARGV[1]
if what == 'enter' then
  -- ARGV: id, how many there may be, idle life.
  if redis.call('ZSCORE', KEYS[1], ARGV[2]) then return { 'known' } end
  if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return { 'full' } end
  redis.call('ZADD', KEYS[1], 0, ARGV[2])
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[4])), ARGV[2])
  return { 'entered' }
elseif what == 'leave' then
  for index = 2, #ARGV do
    redis.call('ZREM', KEYS[1], ARGV[index])
    redis.call('ZREM', KEYS[2], ARGV[index])
  end
  return { 'done' }
elseif what == 'later' then
  -- Pairs of when to look, and id.
  for index = 2, #ARGV, 2 do redis.call('ZADD', KEYS[2], 'XX', ARGV[index], ARGV[index + 1]) end
  return { 'done' }
elseif what == 'due' then
  -- How many there are, and those that are due.
  local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[2])
  table.insert(due, 1, string.format('%.0f', redis.call('ZCARD', KEYS[1])))
  return due
else
  -- ARGV: after which id, or '', and how many.
  local from = ARGV[2] == '' and '-' or '(' .. ARGV[2]
  return redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, ARGV[3])
end
