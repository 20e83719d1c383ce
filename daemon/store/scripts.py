"""The scripts that the server runs, each as one step: compare, and only then set.

None of them trusts that a key holds what farense put there: a record that is no hash is missing.
"""

from __future__ import annotations

# KEYS: the unfinished. ARGV: what stands before an id in the name of its record, the states in
# which a job waits. A record that cannot be read counts as one that does not wait.
SPLIT = """
local waits, waiting, others = {}, {}, {}
for i = 2, #ARGV do waits[ARGV[i]] = true end
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local state = redis.pcall('HGET', ARGV[1] .. id, 'state')
  local kind = (type(state) == 'string' and waits[state]) and waiting or others
  kind[#kind + 1] = id
end
return {waiting, others}
"""

# KEYS: the unfinished. ARGV: what stands before an id in the name of its record, the states queued
# and running, how many of the others are named at the most. Returns how many are queued, how many
# are neither queued nor running, those that run, and the first of the others.
APART = """
local queued, count, running, others, most = 0, 0, {}, {}, tonumber(ARGV[4])
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local state = redis.pcall('HGET', ARGV[1] .. id, 'state')
  if state == ARGV[2] then
    queued = queued + 1
  elseif state == ARGV[3] then
    running[#running + 1] = id
  else
    count = count + 1
    if #others < most then others[#others + 1] = id end
  end
end
return {queued, count, running, others}
"""

# KEYS: index, unfinished. ARGV: how many to pass over, how many to name. Returns how many jobs have
# ended, and some of them, newest first. The index is read a piece at a time: of ten thousand jobs
# most are not looked at.
ENDED = """
local skip, want, found, at = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, 0
while #found < want do
  local ids = redis.call('ZREVRANGE', KEYS[1], at, at + 499)
  if #ids == 0 then break end
  local open = redis.call('SMISMEMBER', KEYS[2], unpack(ids))
  for place, id in ipairs(ids) do
    if open[place] == 0 and #found < want then
      if skip > 0 then skip = skip - 1 else found[#found + 1] = id end
    end
  end
  at = at + #ids
end
return {redis.call('ZCARD', KEYS[1]) - redis.call('SCARD', KEYS[2]), found}
"""

# KEYS: record, unfinished, index. ARGV: id, score, "1" where finished, then fields and values.
CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local fields = {}
for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call(ARGV[3] == '1' and 'SREM' or 'SADD', KEYS[2], ARGV[1])
return 1
"""

# KEYS: record, unfinished, index. ARGV: id, score, then the states in which a job has ended.
INDEX = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local state = redis.call('HGET', KEYS[1], 'state')
local change = 'SADD'
for i = 3, #ARGV do if ARGV[i] == state then change = 'SREM' end end
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call(change, KEYS[2], ARGV[1])
return 1
"""

# Sets the fields and values that stand in ARGV from a place on; an empty value removes the field.
SET_FIELDS = """
local function set_fields(first)
  for i = first, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
  end
end
"""

# KEYS: record, unfinished. ARGV: expected state, expected attempt, id, "1" where finished after it,
# then fields and values.
WRITE = f"""{SET_FIELDS}
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return -1 end
local found = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then return 0 end
set_fields(5)
if ARGV[4] == '1' then
  redis.call('SREM', KEYS[2], ARGV[3])
else
  redis.call('SADD', KEYS[2], ARGV[3])
end
return 1
"""

# KEYS: record, stream. ARGV: attempt, offset at which the lines start, offset at which they end,
# longest stream, number of lines, the lines, then fields and values of the record.
EVENTS = f"""{SET_FIELDS}
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return -1 end
local found = redis.call('HMGET', KEYS[1], 'attempt', 'log_offset')
if found[1] ~= ARGV[1] then return 0 end
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'stream' and kind ~= 'none' then
  redis.call('DEL', KEYS[2])
  redis.call('HDEL', KEYS[1], 'log_offset')
  return 2
end
if (found[2] or '0') ~= ARGV[2] then return 2 end
local first = 6 + ARGV[5]
for i = 6, first - 1 do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'event', ARGV[i])
end
set_fields(first)
redis.call('HSET', KEYS[1], 'log_offset', ARGV[3])
return 1
"""

# KEYS: record. ARGV: expected attempt, lease in seconds. By the server's clock, which all share.
LEASE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return -1 end
local found = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if found[1] ~= '"running"' or found[2] ~= ARGV[1] then return 0 end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lease_until', now[1] + ARGV[2], 'lease_seconds', ARGV[2])
return 1
"""

# KEYS: one. ARGV: the type that it is to lose. Another daemon may have put it right meanwhile.
REMOVE = """
if redis.call('TYPE', KEYS[1]).ok ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
