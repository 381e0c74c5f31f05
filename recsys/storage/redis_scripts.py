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
