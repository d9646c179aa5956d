-- Enters a session into an owner's index if there is room.
-- KEYS: owner. ARGV: session, until (ms), now (ms), most entries, session to be replaced or '', sessions
-- that have ended.
-- Answers 1: entered; a list: the sessions that have the places.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
for i = 6, #ARGV do
  redis.call('ZREM', KEYS[1], ARGV[i])
end
local others = {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if key ~= ARGV[1] and key ~= ARGV[5] then
    others[#others + 1] = key
  end
end
if #others >= tonumber(ARGV[4]) then
  return others
end
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('PEXPIRE', KEYS[1], math.max(last - ARGV[3], 1))
return 1
