-- Removes members from an index, and those whose time is over. The index then lives as long as
-- its last member.
-- KEYS: index. ARGV: now (ms), members.
-- Returns 1.
for i = 2, #ARGV do
  redis.call('ZREM', KEYS[1], ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last then
  -- A foreign member may have any score, and Redis refuses more than a time.
  redis.call('PEXPIRE', KEYS[1], math.min(math.max(last - ARGV[1], 1), 1e13))
end
return 1
