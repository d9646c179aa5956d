-- Ends a session. A tombstone stays, and tells each time where the session went.
-- KEYS: session.
-- Answers what was there, or nil.
local entry = redis.call('GET', KEYS[1])
if entry and string.sub(entry, 1, 2) ~= '\1\1' then
  redis.call('DEL', KEYS[1])
end
return entry
