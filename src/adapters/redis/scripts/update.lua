-- ARGV: what, its value, and for `upstream` the generation, for `subscribed` how many there may be.
local no = refused()
if no then return no end
local what, value = arg(1), arg(2)
if what == 'client' or what == 'carried' then
  redis.call('HSETNX', S, what, value)
elseif what == 'upstream' then
  local stored = tonumber(redis.call('HGET', S, 'generation'))
  if not stored or tonumber(arg(3)) == stored + 1 then
    redis.call('HSET', S, 'generation', arg(3), 'upstream', value)
  end
elseif what == 'level' then
  redis.call('HSET', S, 'level', value)
elseif what == 'unsubscribed' then
  redis.call('LREM', U, 0, value)
else
  local known = redis.call('LRANGE', U, 0, -1)
  local there = false
  for _, uri in ipairs(known) do there = there or uri == value end
  if not there then
    if #known >= tonumber(arg(3)) then return { 'full' } end
    redis.call('RPUSH', U, value)
    redis.call('PEXPIRE', U, keep)
  end
end
return { 'session', facts() }
