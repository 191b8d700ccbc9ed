package redis

import goredis "github.com/redis/go-redis/v9"

// Each partition has three keys, which share a hash tag:
//
//	entries  sorted set, all scores 0, so that members lie in the order of their
//	         bytes: the empty member as a mark that the set is whole, and one
//	         member for each entry, see sealMember
//	meta     hash: id (mesh, partitions and format), applied (decimal), step
//	         (what a large Apply has come to), synced (see Sync)
//	expiry   sorted set of escaped keys by the second after which they may go
//
// Positions are compared as text: numbers in Lua hold 53 bits.

// luaPosition reads meta. A set without its mark means that the server dropped
// it and kept meta: what is left is worth nothing, as if all had been lost.
const luaPosition = `
local entries, meta, expiry = KEYS[1], KEYS[2], KEYS[3]
local h = redis.call('HMGET', meta, 'id', 'applied', 'step')
if h[1] and h[1] ~= ARGV[1] then
  return redis.error_reply('KARFOREIGN ' .. h[1])
end
local whole = h[2] and redis.call('ZSCORE', entries, '')
local applied, step = '0', ''
if whole then
  applied, step = h[2], h[3] or ''
end
local second = nil
local function now()
  if not second then
    second = tonumber(redis.call('TIME')[1])
  end
  return second
end
local function live(member, at)
  return string.byte(member, at) == 0 or struct.unpack('>I8', string.sub(member, at + 1, at + 8)) > now()
end
local function find(key)
  return redis.call('ZRANGEBYLEX', entries, '[' .. key .. '\0\1', '(' .. key .. '\0\2', 'LIMIT', 0, 1)[1]
end
`

// luaApply: id, from, to, own step before (” for all in one), own step after
// (” to finish), whether to return what was there before, how many entries a
// prefix may remove; then triples: op, key or lower bound, member or upper bound.
// Answers {applied, wrote, more, before...}: wrote 1 when done, 2 when nothing
// was written because a prefix covers too much; more 1 when the prefix at the
// end of a step is not done yet.
const luaApply = luaPosition + `
local from, to, prior, after, limit = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[7])
if applied ~= from then
  return {applied, 0, 0}
end
local stepping = prior ~= '' or after ~= ''
local first = not stepping or string.sub(prior, -2) == ':0'
if not first and step ~= prior and step ~= after then
  return {applied, 0, 0}
end
if not stepping then
  local covered = 0
  for i = 8, #ARGV, 3 do
    if ARGV[i] == 'p' then
      covered = covered + redis.call('ZLEXCOUNT', entries, ARGV[i + 1], ARGV[i + 2])
    end
  end
  if covered > limit then
    return {applied, 2, 0}
  end
end
local adds = false
for i = 8, #ARGV, 3 do
  adds = adds or ARGV[i] ~= 'p' and ARGV[i] ~= 'd'
end
if adds then
  -- A full server refuses this; behind a removal it would take what follows.
  redis.call('HSET', meta, 'id', ARGV[1])
end
if not whole then
  redis.call('UNLINK', entries, expiry, meta)
  redis.call('ZADD', entries, 0, '')
  redis.call('HSET', meta, 'id', ARGV[1], 'applied', '0')
end
local answer, keep, more = {applied, 1, 0}, ARGV[6] == '1', 0
local function before(key, member)
  answer[#answer + 1] = key
  if member and live(member, #key + 3) then
    answer[#answer + 1] = member
  else
    answer[#answer + 1] = ''
  end
end
for i = 8, #ARGV, 3 do
  local op, a, b = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if op == 'p' then
    if stepping then
      local bound = redis.call('ZRANGEBYLEX', entries, a, b, 'LIMIT', limit, 1)[1]
      if bound then
        b, more = '(' .. bound, 1
      end
    end
    if keep then
      for _, member in ipairs(redis.call('ZRANGEBYLEX', entries, a, b)) do
        before(string.sub(member, 1, string.find(member, '\0\1', 1, true) - 1), member)
      end
    end
    redis.call('ZREMRANGEBYLEX', entries, a, b)
  else
    if keep then
      before(a, find(a))
    end
    redis.call('ZREMRANGEBYLEX', entries, '[' .. a .. '\0\1', '(' .. a .. '\0\2')
    if op ~= 'd' then
      redis.call('ZADD', entries, 0, a .. '\0\1' .. b)
      if op ~= 's' then
        redis.call('ZADD', expiry, op, a)
      end
    end
  end
end
local due = redis.call('ZRANGEBYSCORE', expiry, '-inf', now(), 'LIMIT', 0, 20 + math.floor(#ARGV / 3))
for _, key in ipairs(due) do
  local member = find(key)
  if member and not live(member, #key + 3) then
    redis.call('ZREM', entries, member)
  end
  redis.call('ZREM', expiry, key)
end
if more == 0 and after == '' then
  redis.call('HSET', meta, 'applied', to)
  if step ~= '' then
    redis.call('HDEL', meta, 'step')
  end
  answer[1] = to
else
  redis.call('HSET', meta, 'step', after)
end
answer[3] = more
return answer
`

// luaGet: id, key. Answers {applied, step, member}.
const luaGet = luaPosition + `
local member = whole and find(ARGV[2])
if member and live(member, #ARGV[2] + 3) then
  return {applied, step, member}
end
return {applied, step}
`

// luaScan: id, lower, upper, most entries, most bytes (about). Answers {applied,
// step, last member looked at or ” at the end, live members...}.
const luaScan = luaPosition + `
local answer = {applied, step, ''}
if not whole then
  return answer
end
local lower, upper, limit, bytes, seen, size, some = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), 0, 0, 16
while true do
  some = math.min(some, limit - seen)
  local found = redis.call('ZRANGEBYLEX', entries, lower, upper, 'LIMIT', 0, some)
  for _, member in ipairs(found) do
    size = size + #member
    if live(member, string.find(member, '\0\1', 1, true) + 2) then
      answer[#answer + 1] = member
    end
  end
  if #found < some then
    return answer
  end
  seen = seen + #found
  if seen >= limit or size >= bytes then
    answer[3] = found[#found]
    return answer
  end
  lower = '(' .. found[#found]
  if size < bytes / 16 then
    some = some * 2
  end
end
`

// luaApplied: id. Answers {applied, step}.
const luaApplied = luaPosition + `
return {applied, step}
`

// luaMark: id. A write, so that WAIT and WAITAOF after it cover everything
// before it. Answers {applied, step}.
const luaMark = luaPosition + `
if whole then
  redis.call('HSET', meta, 'synced', applied)
end
return {applied, step}
`

// luaAnnounce: node, entry, lifetime in ms. Answers why the entry was refused, ""
// when it was not, and all entries that are not over; one that cannot be read is not
// known to be over, and none is while nobody can renew them.
const luaAnnounce = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answer = {''}
if ARGV[1] ~= '' then
  local done = redis.pcall('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now + ARGV[3]) .. ARGV[2])
  if type(done) == 'table' and done.err then
    answer[1] = done.err
  end
end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ends = tonumber(string.match(all[i + 1], '^(%d+) '))
  if answer[1] == '' and ends and ends <= now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    answer[#answer + 1] = all[i]
    answer[#answer + 1] = all[i + 1]
  end
end
return answer
`

type scripts struct {
	apply, get, scan, applied, mark, announce *goredis.Script
}

func newScripts() scripts {
	return scripts{
		apply:    goredis.NewScript(luaApply),
		get:      goredis.NewScript(luaGet),
		scan:     goredis.NewScript(luaScan),
		applied:  goredis.NewScript(luaApplied),
		mark:     goredis.NewScript(luaMark),
		announce: goredis.NewScript(luaAnnounce),
	}
}
