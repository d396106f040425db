-- Shared by all scripts of the prototype. Numbers and fences are text outside, numbers inside.
local session, log, stream = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local function parse(id)
  local ms, counter = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(counter)
end
-- The first number at or after now that is above `id`.
local function following(id)
  local ms, counter = parse(id)
  if now > ms then return text(now) .. '-0' end
  return text(ms) .. '-' .. text(counter + 1)
end
local function fence_after(previous) return text(math.max((tonumber(previous) or 0) + 1, now)) end
local function gone() return redis.call('EXISTS', session) == 0 end
