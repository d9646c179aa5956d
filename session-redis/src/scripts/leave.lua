-- Removes members from an owner's index, and those whose time is over. The index then lives as long as
-- its last member.
-- KEYS: owner. ARGV: now (ms), members.
-- Returns 1.
for i = 2, #ARGV do
  redis.call('ZREM', KEYS[1], ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last then
  redis.call('PEXPIRE', KEYS[1], math.max(last - ARGV[1], 1))
end
return 1
