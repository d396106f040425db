-- ARGV: a stream that must be unbound since it was bound under a fence, or ''; that fence.
local no = refused()
if no then return no end
if arg(1) ~= '' then
  local book = redis.call('HMGET', S .. ':' .. arg(1) .. ':b', 'node', 'newest')
  if book[1] or tonumber(book[2] or '0') > tonumber(arg(2)) then return { 'held' } end
end
return ended()
