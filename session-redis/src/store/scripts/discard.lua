-- Deletes an entry that cannot be read, if it is still there.
-- KEYS: session. ARGV: its header.
-- Returns 1.
if redis.call('GETRANGE', KEYS[1], 0, 39) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
