"""The decisions that run inside the store, so that gateways never disagree. Time is the store's own.

Each subject has four keys: a hash of requests by second, one of tokens by second, a sorted set of running
requests (leases, by the moment they lapse) and a hash with the tokens of the day and of the month.
"""

from __future__ import annotations

_COMMON = """
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second + tonumber(time[2]) / 1000000

local function civil_month(days)
  local shifted = days + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local index = math.floor((5 * of_year + 2) / 153)
  local month = index < 10 and index + 3 or index - 9
  local civil = year + era * 400 + (month <= 2 and 1 or 0)
  return civil * 12 + month - 1
end

local day = math.floor(second / 86400)
local month = civil_month(day)

local function quota(key)
  local found = redis.call('HMGET', key, 'day', 'day_used', 'month', 'month_used')
  local by_day = tonumber(found[1]) == day and tonumber(found[2]) or 0
  local by_month = tonumber(found[3]) == month and tonumber(found[4]) or 0
  return by_day, by_month
end

local function set_quota(key, by_day, by_month)
  redis.call('HSET', key, 'day', day, 'day_used', math.max(0, by_day),
    'month', month, 'month_used', math.max(0, by_month))
  redis.call('EXPIRE', key, 2764800)
end
"""

RESERVE = (
    _COMMON
    + """
local tokens, lease, lapse = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local function window(key)
  local steps, old, total, newest = {}, {}, 0, 0
  local found = redis.call('HGETALL', key)
  for i = 1, #found, 2 do
    local at, count = tonumber(found[i]), tonumber(found[i + 1])
    if at <= second - 61 then
      old[#old + 1] = found[i]
    else
      steps[#steps + 1] = {at, count}
      total = total + count
      if at > newest then newest = at end
    end
  end
  if #old > 0 then redis.call('HDEL', key, unpack(old)) end
  return steps, total, newest
end

local function wait(steps, free)
  if free <= 0 then return 0 end
  table.sort(steps, function(a, b) return a[1] < b[1] end)
  for _, step in ipairs(steps) do
    free = free - step[2]
    if free <= 0 then return step[1] + 61 - now end
  end
  return 61
end

local function reset(newest)
  return newest > 0 and newest + 61 - now or 0
end

local allowed, answer = 1, {}
for i = 0, #KEYS / 4 - 1 do
  local base, limit = i * 4, {}
  for j = 1, 5 do limit[j] = tonumber(ARGV[3 + i * 5 + j]) end
  local r, r_used, r_newest = window(KEYS[base + 1])
  local t, t_used, t_newest = window(KEYS[base + 2])
  local running, by_day, by_month = 0, 0, 0
  if limit[3] > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[base + 3], '-inf', now)
    running = redis.call('ZCARD', KEYS[base + 3])
  end
  if limit[4] > 0 or limit[5] > 0 then by_day, by_month = quota(KEYS[base + 4]) end
  local need = math.max(1, tokens)
  if (limit[1] > 0 and r_used + 1 > limit[1]) or (limit[2] > 0 and t_used + tokens > limit[2])
    or (limit[3] > 0 and running >= limit[3]) or (limit[4] > 0 and by_day + need > limit[4])
    or (limit[5] > 0 and by_month + need > limit[5]) then
    allowed = 0
  end
  answer[#answer + 1] = {
    r_used, math.floor(1000 * wait(r, limit[1] > 0 and r_used + 1 - limit[1] or 0)),
    math.floor(1000 * reset(r_newest)),
    t_used, math.floor(1000 * wait(t, limit[2] > 0 and t_used + tokens - limit[2] or 0)),
    math.floor(1000 * reset(t_newest)), running, by_day, by_month,
  }
end
if allowed == 1 then
  for i = 0, #KEYS / 4 - 1 do
    local base = i * 4
    local function has(j) return tonumber(ARGV[3 + i * 5 + j]) > 0 end
    if has(1) then
      redis.call('HINCRBY', KEYS[base + 1], second, 1)
      redis.call('EXPIRE', KEYS[base + 1], 62)
    end
    if has(2) then
      redis.call('HINCRBY', KEYS[base + 2], second, tokens)
      redis.call('EXPIRE', KEYS[base + 2], 62)
    end
    if has(3) then
      redis.call('ZADD', KEYS[base + 3], now + lapse, lease)
      redis.call('EXPIRE', KEYS[base + 3], math.ceil(lapse) + 1)
    end
    if has(4) or has(5) then
      set_quota(KEYS[base + 4], answer[i + 1][8] + tokens, answer[i + 1][9] + tokens)
    end
  end
end
return {allowed, second, time[2], answer}
"""
)
"""KEYS: four per subject. ARGV: tokens, lease, seconds of a lease, then five limits per subject (0: none)."""

SETTLE = (
    _COMMON
    + """
local lease, reserved = ARGV[1], tonumber(ARGV[2])
local correction, completion = tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 0, #KEYS / 4 - 1 do
  local base, counts = i * 4, tonumber(ARGV[5 + i])
  if lease ~= '' then redis.call('ZREM', KEYS[base + 3], lease) end
  if counts % 2 == 1 and reserved > 0 then
    if correction ~= 0 and reserved > second - 61 then
      local left = redis.call('HINCRBY', KEYS[base + 2], reserved, correction)
      if left < 0 then redis.call('HSET', KEYS[base + 2], reserved, 0) end
    end
    if completion > 0 then redis.call('HINCRBY', KEYS[base + 2], second, completion) end
    redis.call('EXPIRE', KEYS[base + 2], 62)
  end
  if counts >= 2 and correction + completion ~= 0 then
    local by_day, by_month = quota(KEYS[base + 4])
    set_quota(KEYS[base + 4], by_day + correction + completion, by_month + correction + completion)
  end
end
return 1
"""
)
"""KEYS: four per subject. ARGV: lease, second of the reservation (0: only the quotas are meant), correction
of the prompt's tokens, tokens of the answer, then per subject 1 for a limit on tokens per minute and 2 for a
quota, or both."""

RENEW = """
local time = redis.call('TIME')
local until_ = tonumber(time[1]) + tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', until_, ARGV[1])
  redis.call('EXPIRE', key, math.ceil(tonumber(ARGV[2])) + 1)
end
return 1
"""
"""KEYS: the sorted sets that a lease is in. ARGV: lease, seconds."""
