-- ARGV: stream, request, fence of the dead runner, new runner.
local no = refused()
if no then return no end
local record = record_of(arg(2))
if not record or record.stream ~= name then return { 'lost' } end
if not (record.runner == arg(4) and record.from == arg(3)) then
  if record.fence ~= arg(3) then return { 'lost' } end
  record.from, record.fence, record.runner = record.fence, draw_fence(), arg(4)
  keep_record(arg(2), record)
  -- What is not recorded any more may have ended elsewhere.
  give_up(record.from)
end
record.request = arg(2)
return { 'taken', cjson.encode(record) }
