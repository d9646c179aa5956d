-- Enters a session into an owner's index if there is room.
-- KEYS: owner. ARGV: session, until (ms), now (ms), most sessions, how many are to be replaced, how many pairs
-- there are, the sessions to be replaced, the pairs, sessions that have ended.
-- Answers 1: entered; a list: the sessions that have the places.
local pairs_at = 7 + ARGV[5]
local ended_at = pairs_at + 2 * ARGV[6]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
for i = ended_at, #ARGV do
  redis.call('ZREM', KEYS[1], ARGV[i])
end
local uncounted = {[ARGV[1]] = true}
for i = 7, pairs_at - 1 do
  uncounted[ARGV[i]] = true
end
local others, counted = {}, {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if not uncounted[key] then
    others[#others + 1] = key
    counted[key] = true
  end
end
local count = #others
for i = pairs_at, ended_at - 1, 2 do
  if counted[ARGV[i]] and counted[ARGV[i + 1]] then
    count = count - 1
  end
end
if count >= tonumber(ARGV[4]) then
  return others
end
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('PEXPIRE', KEYS[1], math.max(last - ARGV[3], 1))
return 1
