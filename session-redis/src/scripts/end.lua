-- Ends a session, or bars a key that holds none. A tombstone stays, and tells where the session went.
-- KEYS: session. ARGV: marker, its time to live (ms), now (ms).
-- Answers 1: ended; a string: the tombstone; nil: barred.
local head = redis.call('GETRANGE', KEYS[1], 0, 39)
if #head == 40 and string.byte(head, 1) == 1 then
  local now = tonumber(ARGV[3])
  local kind = string.byte(head, 2)
  local seen_at, idle, ends_at = struct.unpack('>I6I6I6', head, 17)
  if kind == 0 and math.min(seen_at + idle, ends_at) > now then
    redis.call('DEL', KEYS[1])
    return 1
  end
  if kind == 1 and ends_at > now then
    return redis.call('GET', KEYS[1])
  end
end
-- What has expired or is no record goes, also where a full server refuses the marker.
if head ~= '' then
  redis.call('DEL', KEYS[1])
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
