-- What every step on a session begins with. The keys share one hash tag, so all of it is atomic on one
-- slot. Times are this server's own, in ms; numbers and fences are text outside and numbers inside.
--
-- KEYS: session (hash), streams (zset: name by when to look whether it is past), running records
--       (hash), subscriptions (list), and for steps on a stream its log (stream) and its book (hash).
-- ARGV: idle life, event life, events per log, bytes per log, bytes per session; then the step's own.
local S, Z, R, U, L, B = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local idle, ttl = tonumber(ARGV[1]), tonumber(ARGV[2])
local events_max, stream_bytes_max, session_bytes_max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local FORMAT, EVENT_COST, STREAM_COST = '1', 64, 512
-- Past its life everything behaves as gone; Redis drops it some time later, reaped or not.
local keep = 2 * idle + 2 * ttl + 60000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function arg(index) return ARGV[index + 5] end
local function text(number) return string.format('%.0f', number) end

local function parts(id)
  local ms, counter = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(counter)
end

local function above(one, other)
  local ms, counter = parts(one)
  local other_ms, other_counter = parts(other)
  return ms > other_ms or (ms == other_ms and counter > other_counter)
end

-- The first number at or after now that is above `id`.
local function following(id)
  local ms, counter = parts(id)
  if now > ms then return text(now) .. '-0' end
  return text(ms) .. '-' .. text(counter + 1)
end

-- Says why the step can't be taken, if it can't; otherwise it counts as use.
local function refused()
  local known = redis.call('HMGET', S, 'format', 'touched')
  if not known[1] then return { 'gone' } end
  if known[1] ~= FORMAT then return { 'format', known[1] } end
  if tonumber(known[2]) + idle <= now then return { 'gone' } end
  redis.call('HSET', S, 'touched', text(now))
  for index = 1, 4 do redis.call('PEXPIRE', KEYS[index], keep) end
end

-- A fence above all that this session had, and above what a failover may have forgotten.
local function draw_fence()
  local fence = text(math.max((tonumber(redis.call('HGET', S, 'fence')) or 0) + 1, now))
  redis.call('HSET', S, 'fence', fence)
  return fence
end

local function facts()
  local answer = redis.call('HGETALL', S)
  answer[#answer + 1] = 'subscriptions'
  answer[#answer + 1] = redis.call('LRANGE', U, 0, -1)
  return answer
end

local function forget_session()
  for _, name in ipairs(redis.call('ZRANGE', Z, 0, -1)) do
    local log = S .. ':' .. name
    redis.call('DEL', log, log .. ':b')
  end
  redis.call('DEL', S, Z, R, U)
end

-- The session's facts and the streams that were bound, and then nothing of it is left.
local function ended()
  local bound = {}
  for _, name in ipairs(redis.call('ZRANGE', Z, 0, -1)) do
    local held = redis.call('HMGET', S .. ':' .. name .. ':b', 'node', 'fence')
    if held[1] then
      bound[#bound + 1] = name
      bound[#bound + 1] = held[1]
      bound[#bound + 1] = held[2]
    end
  end
  local answer = { 'closed', facts(), bound }
  forget_session()
  return answer
end
