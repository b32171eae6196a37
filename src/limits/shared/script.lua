-- One account of the quotas: the times, in microseconds of this server's clock, at which its two quotas are as good as new.
-- KEYS[1]; for events, then for KiB: own, cost, cap, most, in microseconds. Answers how far each is ahead of now.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local at = {0, 0}
local kept = redis.call('GET', KEYS[1])
if kept then
  local events, kib = string.match(kept, '^(%d+) (%d+)$')
  at = {tonumber(events or 0), tonumber(kib or 0)}
end
local ahead = {}
for quota = 1, 2 do
  local first = quota * 4 - 3
  local own, cost = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local cap, most = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  local before = math.min(math.max(at[quota] - now, 0), most)
  ahead[quota] = math.max(before, own, math.min(before + cost, cap))
end
local longest = math.max(ahead[1], ahead[2])
if longest > 0 then
  local kept_as = string.format('%.0f %.0f', now + ahead[1], now + ahead[2])
  redis.call('SET', KEYS[1], kept_as, 'PX', string.format('%.0f', math.ceil(longest / 1000) + 1000))
end
return ahead
