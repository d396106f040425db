local no = refused()
if no then return no end
-- The standing streams' tops are as old as the session.
for _, of in ipairs({ 'g', 's' }) do
  redis.call('PEXPIRE', S .. ':' .. of, keep)
  redis.call('PEXPIRE', S .. ':' .. of .. ':b', keep)
end
return { 'done' }
