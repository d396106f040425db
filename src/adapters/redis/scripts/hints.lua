-- KEYS: a server's hints (hash). ARGV: a method that is given now, or '' to read all.
if ARGV[1] == '' then return redis.call('HGETALL', KEYS[1]) end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000)))
return { 'done' }
