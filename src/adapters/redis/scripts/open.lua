-- ARGV: server, owner, transport. One owner for good: this is the compare-and-set.
local known = redis.call('HMGET', S, 'format', 'touched', 'owner')
if known[1] and known[1] ~= FORMAT then return { 'format', known[1] } end
if known[1] and tonumber(known[2]) + idle > now then
  if known[3] == arg(2) then redis.call('HSET', S, 'touched', text(now)) end
  return { 'owned', known[3] }
end
-- Past its idle life and not reaped yet: its upstream has to be told first.
if known[1] then return { 'past' } end
redis.call('HSET', S, 'format', FORMAT, 'server', arg(1), 'owner', arg(2), 'transport', arg(3),
  'opened', text(now), 'touched', text(now), 'bytes', 0)
redis.call('PEXPIRE', S, keep)
return { 'owned', arg(2) }
