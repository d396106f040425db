-- Leases. KEYS: leases (zset: node by when its lease ends), facts (hash), left (zset: node by when it gave its lease
-- back). ARGV: what, then its own.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local what = ARGV[1]
if what == 'leave' then
  -- ARGV: node, for how long it is known.
  if redis.call('ZREM', KEYS[1], ARGV[2]) == 1 then
    redis.call('ZADD', KEYS[3], string.format('%.0f', now), ARGV[2])
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
  end
  redis.call('HDEL', KEYS[2], ARGV[2])
  return {}
end
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead)
end
if what == 'beat' then
  -- ARGV: node, lifetime, facts, for how long those that left are known.
  local lapsed = redis.call('ZSCORE', KEYS[1], ARGV[2]) and '0' or '1'
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now - tonumber(ARGV[5])))
  return {
    lapsed, string.format('%.0f', now), redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('ZRANGE', KEYS[3], 0, -1),
  }
end
local answer = {}
for _, node in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  answer[#answer + 1] = node
  answer[#answer + 1] = redis.call('HGET', KEYS[2], node) or '{}'
end
return answer
