"""The steps that Redis takes as one, in Lua. A script checks everything before it writes anything."""

from __future__ import annotations

# KEYS: the log, U states, E event keys. ARGV: U, E, seconds to remember an event, then the version bytes expected and
# the new value of each state, then the record of each event. Nothing is written before every check has passed.
COMMIT = """
local n_states, n_events = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 1, n_states do
  if redis.call('GETRANGE', KEYS[1 + i], 0, 7) ~= ARGV[2 + 2 * i] then return 0 end
end
for i = 1, n_events do
  if redis.call('EXISTS', KEYS[1 + n_states + i]) == 1 then return 0 end
end
for i = 1, n_states do redis.call('SET', KEYS[1 + i], ARGV[3 + 2 * i]) end
for i = 1, n_events do
  redis.call('SET', KEYS[1 + n_states + i], '', 'EX', ARGV[3])
  redis.call('XADD', KEYS[1], '*', 'r', ARGV[3 + 2 * n_states + i])
end
return 1
"""

# KEYS: the items, their order. ARGV: item_id and record, again and again. The version is the highest score.
UPSERT = """
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local version = tonumber(last[2] or '0')
for i = 1, #ARGV, 2 do
  version = version + 1
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[2], version, ARGV[i])
end
return version
"""

# KEYS: a hash for each bucket. ARGV: the worker, milliseconds that its lease lasts, then rate_per_s, burst, held and
# want of each bucket. A hash holds `tokens`, `at` (ms) and, for each worker, what it took away as "amount:until".
# Answers granted and left of each, as text: Lua would cut the fractions off.
DRAW = """
local worker, lease_ms = 'w:' .. ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer = {}
for i, key in ipairs(KEYS) do
  local rate, burst = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local held, want = tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2])
  local tokens, at, elsewhere, fields = burst, now, 0, redis.call('HGETALL', key)
  for j = 1, #fields, 2 do
    local name, value = fields[j], fields[j + 1]
    if name == 'tokens' then tokens = tonumber(value)
    elseif name == 'at' then at = tonumber(value)
    elseif name ~= worker then
      local amount, lasts_until = string.match(value, '^(%d+):(%d+)$')
      if tonumber(lasts_until) < now then redis.call('HDEL', key, name)
      else elsewhere = elsewhere + tonumber(amount) end
    end
  end
  tokens = tokens + rate * math.max(0, now - at) / 1000 + held
  tokens = math.min(tokens, burst - elsewhere)
  local granted = math.max(0, math.min(want, math.floor(tokens)))
  tokens = tokens - granted
  redis.call('HSET', key, 'tokens', tostring(tokens), 'at', now)
  if granted > 0 then redis.call('HSET', key, worker, granted .. ':' .. (now + lease_ms))
  else redis.call('HDEL', key, worker) end
  redis.call('PEXPIRE', key, math.ceil(burst / rate * 1000) + lease_ms)
  answer[2 * i - 1], answer[2 * i] = tostring(granted), tostring(tokens)
end
return answer
"""
