-- One account of the quotas: how far its two quotas were ahead, in microseconds, and when, by this server's clock. So a clock
-- that goes back costs nobody more than it had used.
-- KEYS[1]; for events, then for KiB: own, cost, cap, most, in microseconds. Answers how far each is ahead of now.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local was, since = {0, 0}, 0
local kept = redis.call('GET', KEYS[1])
if kept then
  local events, kib, at = string.match(kept, '^(%d+) (%d+) (%d+)$')
  was, since = {tonumber(events or 0), tonumber(kib or 0)}, math.max(now - tonumber(at or 0), 0)
end
local ahead = {}
for quota = 1, 2 do
  local first = quota * 4 - 3
  local own, cost = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local cap, most = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  local before = math.min(math.max(was[quota] - since, 0), most)
  ahead[quota] = math.max(before, own, math.min(before + cost, cap))
end
local longest = math.max(ahead[1], ahead[2])
if longest > 0 then
  local kept_as = string.format('%.0f %.0f %.0f', ahead[1], ahead[2], now)
  redis.call('SET', KEYS[1], kept_as, 'PX', string.format('%.0f', math.ceil(longest / 1000) + 1000))
end
return ahead
