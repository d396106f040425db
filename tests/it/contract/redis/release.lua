-- ARGV: fence. The fence itself stays: it only grows.
if redis.call('HGET', stream, 'fence') == ARGV[1] then redis.call('HDEL', stream, 'node') end
return { 'done' }
