local known = redis.call('HMGET', S, 'format', 'touched')
if not known[1] then return { 'gone' } end
if known[1] ~= FORMAT then return { 'format', known[1] } end
if tonumber(known[2]) + idle <= now then return { 'gone' } end
return { 'session', facts() }
