-- ARGV: '', how many last events of each stream. Doesn't count as use.
local known = redis.call('HMGET', S, 'format', 'touched')
if not known[1] then return { 'gone' } end
if known[1] ~= FORMAT then return { 'format', known[1] } end
if tonumber(known[2]) + idle <= now then return { 'gone' } end
local streams = {}
for _, of in ipairs(redis.call('ZRANGE', Z, 0, -1)) do
  local log = S .. ':' .. of
  local book = redis.call('HMGET', log .. ':b', 'node', 'fence', 'top')
  if book[3] then
    local last = {}
    for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-', 'COUNT', arg(2))) do
      last[#last + 1] = entry[1]
      last[#last + 1] = text(#entry[2][2])
    end
    streams[#streams + 1] = { of, book[1] or '', book[2] or '', book[3], text(redis.call('XLEN', log)), last }
  end
end
local records = {}
for _, record in ipairs(running()) do records[#records + 1] = cjson.encode(record) end
return { 'session', facts(), streams, records }
