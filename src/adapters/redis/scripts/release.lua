-- ARGV: stream, fence. The newest fence stays: fences only grow.
if redis.call('HGET', B, 'fence') == arg(2) then redis.call('HDEL', B, 'node', 'fence') end
return { 'done' }
