"""The steps that Redis takes as one, in Lua. A script checks everything before it writes anything: what it read was
not changed meanwhile, and no key is another program's (a wrong type raises, so each is read once before)."""

from __future__ import annotations

# KEYS: the log, U states, T times of erasure, E event keys, B buckets. ARGV: U, T, E, B, seconds to remember an event,
# seconds to keep a bucket, its most items, how many are kept then; the version bytes expected and the new value of each
# state; each time of erasure expected ('' = none); the record of each event; for each bucket the number of its items,
# and of each the count and the item_id. Answers 0, and writes nothing, when somebody came between.
COMMIT = """
local U, T, E, B = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 1, U do
  if redis.call('GETRANGE', KEYS[1 + i], 0, 7) ~= ARGV[7 + 2 * i] then return 0 end
end
for i = 1, T do
  if (redis.call('GET', KEYS[1 + U + i]) or '') ~= ARGV[8 + 2 * U + i] then return 0 end
end
for i = 1, E do
  if redis.call('EXISTS', KEYS[1 + U + T + i]) == 1 then return 0 end
end
redis.call('XLEN', KEYS[1])
for i = 1, B do redis.call('ZCARD', KEYS[1 + U + T + E + i]) end
for i = 1, U do redis.call('SET', KEYS[1 + i], ARGV[8 + 2 * i]) end
local at = 8 + 2 * U + T
for i = 1, E do
  redis.call('SET', KEYS[1 + U + T + i], '', 'EX', ARGV[5])
  redis.call('XADD', KEYS[1], '*', 'r', ARGV[at + i])
end
at = at + E
for i = 1, B do
  local bucket, n = KEYS[1 + U + T + E + i], tonumber(ARGV[at + 1])
  for j = 1, n do redis.call('ZINCRBY', bucket, ARGV[at + 2 * j], ARGV[at + 1 + 2 * j]) end
  at = at + 1 + 2 * n
  local size = redis.call('ZCARD', bucket)
  if size > tonumber(ARGV[7]) then redis.call('ZREMRANGEBYRANK', bucket, 0, size - tonumber(ARGV[8]) - 1) end
  redis.call('EXPIRE', bucket, ARGV[6])
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

_NOTE = """
local function note(key, marks, keep_ms, most)
  local length = redis.call('APPEND', key, marks)
  if length > most then redis.call('SET', key, redis.call('GETRANGE', key, -most, -1)) end
  redis.call('PEXPIRE', key, keep_ms)
end
"""

# KEYS: the user's served items, time of erasure. ARGV: the marks, their time in µs, ms to keep them, the most bytes.
NOTE_SERVED = (
    _NOTE
    + """
local erased = tonumber(redis.call('GET', KEYS[2]) or '-1')
if tonumber(ARGV[2]) <= erased then return 0 end
redis.call('STRLEN', KEYS[1])
note(KEYS[1], ARGV[1], ARGV[3], tonumber(ARGV[4]))
return 1
"""
)

# KEYS: the exposures, the spool's mark, then time of erasure and served items of each user. ARGV: the spool's bytes
# start and end (-1 = no spool), seconds to keep its mark, ms to keep served items (0 = note none), their most bytes;
# then of each exposure its record, its time in µs, the number of its user (0 = none) and its marks. Answers the byte
# up to which the spool is stored, and how many exposures were written and dropped.
EXPOSE = (
    _NOTE
    + """
local start, keep_ms, most = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
if start >= 0 then
  local stored = tonumber(redis.call('GET', KEYS[2]) or '0')
  if stored > start then return {stored, 0, 0} end
end
redis.call('XLEN', KEYS[1])
local erased = {}
for user = 1, (#KEYS - 2) / 2 do
  erased[user] = tonumber(redis.call('GET', KEYS[1 + 2 * user]) or '-1')
  redis.call('STRLEN', KEYS[2 + 2 * user])
end
if start >= 0 then redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3]) end
local written, dropped = 0, 0
for at = 6, #ARGV, 4 do
  local user = tonumber(ARGV[at + 2])
  if user > 0 and tonumber(ARGV[at + 1]) <= erased[user] then
    dropped = dropped + 1
  else
    redis.call('XADD', KEYS[1], '*', 'r', ARGV[at])
    if user > 0 and keep_ms > 0 then note(KEYS[2 + 2 * user], ARGV[at + 3], keep_ms, most) end
    written = written + 1
  end
end
return {start >= 0 and tonumber(ARGV[2]) or 0, written, dropped}
"""
)

# KEYS: states of source and target, served items of source and target, the merges, their pairs. ARGV: the version bytes
# expected of source and target, the target's new state ('' = as it is), the merge's record, its pair, the most bytes of
# served items. Answers 0, and writes nothing, when somebody came between.
MERGE = """
for i = 1, 2 do
  if redis.call('GETRANGE', KEYS[i], 0, 7) ~= ARGV[i] then return 0 end
end
local marks, of_target = redis.call('GET', KEYS[3]), redis.call('GET', KEYS[4])
redis.call('LLEN', KEYS[5])
local known = redis.call('SISMEMBER', KEYS[6], ARGV[5]) == 1
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
if ARGV[1] ~= '' or not known then
  redis.call('RPUSH', KEYS[5], ARGV[4])
  redis.call('SADD', KEYS[6], ARGV[5])
end
redis.call('DEL', KEYS[1])
if marks then
  local keep_ms = math.max(redis.call('PTTL', KEYS[3]), redis.call('PTTL', KEYS[4]), 1)
  redis.call('SET', KEYS[4], string.sub(marks .. (of_target or ''), -tonumber(ARGV[6])), 'PX', keep_ms)
  redis.call('DEL', KEYS[3])
end
return 1
"""

# KEYS: the merges, their pairs, the log, the exposures, then state, served items and time of erasure of each user.
# ARGV: how many merges were read, the time of erasure in µs, then record and pair of each merge that goes. Answers 0,
# and writes nothing, when a merge came between; else the counts, and the last places of both streams.
ERASE = """
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
local function last_of(stream)
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  return last[1] and last[1][1] or '0-0'
end
local last_event, last_exposure = last_of(KEYS[3]), last_of(KEYS[4])
for i = 5, #KEYS, 3 do redis.call('STRLEN', KEYS[i + 2]) end
local states, served, merges = 0, 0, 0
for i = 5, #KEYS, 3 do
  local until_us = redis.call('GET', KEYS[i + 2])
  if not until_us or tonumber(until_us) < tonumber(ARGV[2]) then redis.call('SET', KEYS[i + 2], ARGV[2]) end
  states = states + redis.call('DEL', KEYS[i])
  served = served + redis.call('DEL', KEYS[i + 1])
end
for i = 3, #ARGV, 2 do
  merges = merges + redis.call('LREM', KEYS[1], 0, ARGV[i])
  redis.call('SREM', KEYS[2], ARGV[i + 1])
end
return {states, served, merges, last_event, last_exposure}
"""

# KEYS: a stream, T times of erasure, keys to delete. ARGV: T, the latest time in µs of what goes, its places in the
# stream. Answers how many went. The times are raised first: what went must not come in again.
ERASE_RECORDS = """
local T = tonumber(ARGV[1])
for i = 2, T + 1 do
  if tonumber(redis.call('GET', KEYS[i]) or '-1') < tonumber(ARGV[2]) then redis.call('SET', KEYS[i], ARGV[2]) end
end
local gone = 0
for i = 3, #ARGV do gone = gone + redis.call('XDEL', KEYS[1], ARGV[i]) end
for i = T + 2, #KEYS do redis.call('DEL', KEYS[i]) end
return gone
"""
