-- Replaces a session that is still at a revision.
-- KEYS: session. ARGV: how it begins at that revision, new record, its time to live (ms).
-- Answers 1: replaced; nil: nothing there; a string: what is there instead.
if redis.call('GETRANGE', KEYS[1], 0, 7) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return redis.call('GET', KEYS[1])
