-- ARGV: 'client', facts | 'upstream', generation, handle | 'level', level. The first to set wins; the stored one is read back.
if gone() then return { 'gone' } end
if ARGV[1] == 'client' then
  redis.call('HSETNX', session, 'client', ARGV[2])
elseif ARGV[1] == 'level' then
  redis.call('HSET', session, 'level', ARGV[2])
else
  local stored = tonumber(redis.call('HGET', session, 'generation'))
  if stored == nil or tonumber(ARGV[2]) == stored + 1 then
    redis.call('HSET', session, 'generation', ARGV[2], 'upstream', ARGV[3])
  end
end
return { 'now' }
