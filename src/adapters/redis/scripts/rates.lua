-- What is left of a principal's rate. KEYS: one text: when it is whole again, and when that was written, in microseconds.
-- ARGV: what is asked for, what of the burst has to be left for it, and the burst, as the times in which they come back.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local cost, needed, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local whole = now
local at, written = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if at then
  -- After a failover the clock may be another one, and behind.
  whole = math.max(now, tonumber(at) - math.max(0, tonumber(written) - now))
end
local function keep()
  local life = math.ceil((whole - now) / 1000)
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', whole, now), 'PX', string.format('%.0f', math.max(1, life)))
end
local wait = whole + needed - now - burst
if wait > 0 then
  -- By the clock that there is now, or the time would stand still until it is where the other was.
  if tonumber(written) > now then keep() end
  return { 'nothing', string.format('%.0f', wait) }
end
whole = whole + cost
keep()
return { 'all' }
