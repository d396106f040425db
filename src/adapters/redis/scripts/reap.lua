-- Ends a session that is past its idle life; answers when to look again at one that is not.
local known = redis.call('HMGET', S, 'format', 'touched')
if not known[1] then return { 'gone' } end
-- Another version's is for its own nodes to end.
if known[1] ~= FORMAT then return { 'alive', text(now + idle) } end
if tonumber(known[2]) + idle > now then return { 'alive', text(tonumber(known[2]) + idle) } end
return ended()
