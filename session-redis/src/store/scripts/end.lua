-- Deletes a session, or blocks a key that holds none. A tombstone stays, and is returned.
-- KEYS: session. ARGV: marker, its time to live (ms), now (ms).
-- Returns 1: a session was deleted; a string: the tombstone; nil: the key is blocked.
local head = redis.call('GETRANGE', KEYS[1], 0, 39)
if head ~= '' then
  local kind = string.byte(head, 2)
  if #head < 40 or string.byte(head, 1) ~= 1 or kind > 1 then
    -- A record of another version may be a live session.
    redis.call('DEL', KEYS[1])
    return 1
  end
  local now = tonumber(ARGV[3])
  local seen_at, idle, ends_at = struct.unpack('>I6I6I6', head, 17)
  if kind == 1 and ends_at > now then
    return redis.call('GET', KEYS[1])
  end
  -- An expired entry is deleted even where a full server refuses the marker.
  redis.call('DEL', KEYS[1])
  if kind == 0 and math.min(seen_at + idle, ends_at) > now then
    return 1
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
