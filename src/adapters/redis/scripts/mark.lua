-- ARGV: stream, request, fence, upstream's event id.
local no = refused()
if no then return no end
local record = record_of(arg(2))
if record and record.stream == name and record.fence == arg(3) then
  record.upstream = arg(4)
  keep_record(arg(2), record)
end
return { 'done' }
