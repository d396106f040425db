-- ARGV: stream, request, fence, upstream's event id, producer, the number of its last append (0: none).
local no = refused()
if no then return no end
local record = record_of(arg(2))
local last = string.match(redis.call('HGET', B, 'p:' .. arg(5)) or '0', '^%d+')
if record and record.stream == name and record.fence == arg(3) and last == arg(6) then
  record.upstream = arg(4)
  keep_record(arg(2), record)
end
return { 'done' }
