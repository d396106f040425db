-- What every step on a stream begins with.
local name = arg(1)

local function is_post(of) return string.sub(of, 1, 1) == 'p' end

-- Records that have not ended: those of one stream, or of all.
local function running(of)
  local found = {}
  local all = redis.call('HGETALL', R)
  for index = 1, #all, 2 do
    local record = cjson.decode(all[index + 1])
    if record.deadline > now and (of == nil or record.stream == of) then
      record.request = all[index]
      found[#found + 1] = record
    end
  end
  return found
end

local function record_of(request)
  local stored = redis.call('HGET', R, request)
  local record = stored and cjson.decode(stored)
  return record and record.deadline > now and record or nil
end

local function keep_record(request, record)
  record.request = nil
  redis.call('HSET', R, request, cjson.encode(record))
end

-- Whoever runs a request under this fence, or an older one, runs it no longer.
local function give_up(fence)
  local taken = tonumber(redis.call('HGET', B, 'taken') or '0')
  redis.call('HSET', B, 'taken', text(math.max(taken, tonumber(fence))))
end

local function forget(of)
  local log = S .. ':' .. of
  local bytes = tonumber(redis.call('HGET', log .. ':b', 'bytes')) or 0
  redis.call('HINCRBY', S, 'bytes', -(bytes + (is_post(of) and STREAM_COST or 0)))
  redis.call('DEL', log, log .. ':b')
  redis.call('ZREM', Z, of)
end

-- A POST's stream is forgotten when its events are, unless something still runs towards it.
local function is_past(of)
  local known = redis.call('HMGET', S .. ':' .. of .. ':b', 'top', 'ended')
  if not known[1] then return true end
  local since = tonumber(known[2]) or parts(known[1])
  if since + ttl > now then return false end
  return known[2] and true or #running(of) == 0
end

-- Lets go of a log's oldest event, if it has one.
local function trim_front(of)
  local log = S .. ':' .. of
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not oldest then return false end
  local cost = #oldest[2][2] + EVENT_COST
  redis.call('XDEL', log, oldest[1])
  redis.call('HSET', log .. ':b', 'trimmed', oldest[1])
  redis.call('HINCRBY', log .. ':b', 'bytes', -cost)
  redis.call('HINCRBY', S, 'bytes', -cost)
  return true
end

-- Lets go of what is past its time.
local function age()
  if is_post(name) and redis.call('EXISTS', B) == 1 and is_past(name) then forget(name) end
  while true do
    local oldest = redis.call('XRANGE', L, '-', '+', 'COUNT', 1)[1]
    if not oldest or parts(oldest[1]) + ttl > now then return end
    trim_front(name)
  end
end

-- What goes next of a stream: its oldest event or, once it ended and has none, the stream itself.
local function front_of(of)
  local oldest = redis.call('XRANGE', S .. ':' .. of, '-', '+', 'COUNT', 1)[1]
  if oldest then return oldest[1], false end
  if of == name or not is_post(of) then return nil end
  local known = redis.call('HMGET', S .. ':' .. of .. ':b', 'top', 'ended')
  return known[2] and known[1] or nil, true
end

-- Keeps the session's bytes in bounds: the oldest of all streams goes first.
local function trim_session()
  if (tonumber(redis.call('HGET', S, 'bytes')) or 0) <= session_bytes_max then return end
  -- Counted anew: what Redis dropped by itself was not subtracted.
  local bytes = 0
  for _, of in ipairs(redis.call('ZRANGE', Z, 0, -1)) do
    local own = redis.call('HGET', S .. ':' .. of .. ':b', 'bytes')
    if own then bytes = bytes + tonumber(own) + (is_post(of) and STREAM_COST or 0) end
  end
  redis.call('HSET', S, 'bytes', text(bytes))
  while (tonumber(redis.call('HGET', S, 'bytes')) or 0) > session_bytes_max do
    local oldest, whose, empty
    for _, of in ipairs(redis.call('ZRANGE', Z, 0, -1)) do
      local front, is_empty = front_of(of)
      if front and (not oldest or above(oldest, front)) then oldest, whose, empty = front, of, is_empty end
    end
    if not whose then return end
    if empty then forget(whose) else trim_front(whose) end
  end
end

local function trim()
  while redis.call('XLEN', L) > events_max
    or (tonumber(redis.call('HGET', B, 'bytes')) or 0) > stream_bytes_max do
    if not trim_front(name) then break end
  end
  trim_session()
end

-- Keeps the stream's keys for as long as they can matter.
local function keep_stream(longer)
  redis.call('PEXPIRE', L, keep + (longer or 0))
  redis.call('PEXPIRE', B, keep + (longer or 0))
end

-- Makes the stream, with a top that no event has, unless it is there.
local function ensure(look)
  if redis.call('HEXISTS', B, 'top') == 1 then return end
  local top = text(now) .. '-0'
  redis.call('HSET', B, 'top', top, 'trimmed', top, 'bytes', 0)
  redis.call('ZADD', Z, is_post(name) and text(look) or '+inf', name)
  if is_post(name) then redis.call('HINCRBY', S, 'bytes', STREAM_COST) end
end

-- Forgets some POST streams that are past their time.
local function sweep()
  for _, of in ipairs(redis.call('ZRANGEBYSCORE', Z, '-inf', text(now), 'LIMIT', 0, 16)) do
    if is_past(of) then forget(of) else redis.call('ZADD', Z, text(now + ttl), of) end
  end
end
