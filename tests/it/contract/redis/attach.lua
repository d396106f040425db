-- ARGV: node, position or '', reassert or '', not after or '', post.
if gone() then return { 'gone' } end
if ARGV[4] ~= '' and now > tonumber(ARGV[4]) then return { 'late' } end
local post = ARGV[5] == '1'
local top = redis.call('HGET', stream, 'top')
if not top then
  if post then return { 'unknown' } end
  if ARGV[2] ~= '' then return { 'lost', '0-0' } end
  top = text(now) .. '-0'
  redis.call('HSET', stream, 'top', top, 'trimmed', top)
  redis.call('HSET', session, 's:' .. string.match(stream, '}:(.*):b$'), '')
end
local held = redis.call('HGET', stream, 'fence') or '0'
if ARGV[3] ~= '' and tonumber(held) > tonumber(ARGV[3]) then return { 'superseded', held } end
local start = ARGV[2]
if start == '' then
  start = redis.call('HGET', stream, 'unheld') or top
elseif start ~= top and start ~= redis.call('HGET', stream, 'trimmed')
    and #redis.call('XRANGE', log, start, start) == 0 then
  return { 'lost', top }
end
local ended = post and tonumber(redis.call('HGET', stream, 'open') or '0') <= 0
if ended and start == top then return { 'ended' } end
local fence = ARGV[3] ~= '' and ARGV[3] or fence_after(held)
local node = redis.call('HGET', stream, 'node') or ''
redis.call('HSET', stream, 'node', ARGV[1], 'fence', fence)
redis.call('HDEL', stream, 'unheld')
local answer = { 'bound', fence, start, node, held, ended and '1' or '0' }
for _, entry in ipairs(redis.call('XRANGE', log, '(' .. start, '+')) do
  answer[#answer + 1] = entry[1]
  answer[#answer + 1] = entry[2][2]
end
return answer
