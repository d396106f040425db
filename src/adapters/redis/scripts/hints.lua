-- KEYS: a server's hints (hash). ARGV: a method that was given now.
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000)))
return { 'done' }
