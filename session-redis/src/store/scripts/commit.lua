-- Replaces a session that is still the expected one.
-- KEYS: session. ARGV: how that begins: format, kind, revision, nonce, new record, its time to live (ms).
-- Answers 1: replaced; nil: nothing there; a string: what is there instead.
if redis.call('GETRANGE', KEYS[1], 0, 15) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return redis.call('GET', KEYS[1])
