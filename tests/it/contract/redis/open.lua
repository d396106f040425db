-- ARGV: server, owner, transport. One owner for good: HSETNX is the compare-and-set.
if redis.call('HSETNX', session, 'owner', ARGV[2]) == 1 then
  redis.call('HSET', session, 'server', ARGV[1], 'transport', ARGV[3])
end
return { redis.call('HGET', session, 'owner') }
