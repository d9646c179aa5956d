-- Ends a session. A tombstone stays, and tells each time where the session went.
-- KEYS: session.
-- Answers what was there, or nil.
if redis.call('GETRANGE', KEYS[1], 0, 1) == '\1\1' then
  return redis.call('GET', KEYS[1])
end
return redis.call('GETDEL', KEYS[1])
