-- ARGV: a stream that must be unbound, or ''.
local no = refused()
if no then return no end
if arg(1) ~= '' and redis.call('HEXISTS', S .. ':' .. arg(1) .. ':b', 'node') == 1 then return { 'held' } end
return ended()
