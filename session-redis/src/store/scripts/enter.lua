-- Enters a session into an index, or extends its entry.
-- KEYS: index. ARGV: member (key and family), until (ms), now (ms).
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
local former = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not former or tonumber(former) < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
-- A foreign member may have any score, and Redis refuses more than a time.
redis.call('PEXPIRE', KEYS[1], math.min(math.max(last - ARGV[3], 1), 1e13))
return 1
