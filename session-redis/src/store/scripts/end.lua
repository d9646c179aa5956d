-- Deletes a session, or blocks a key that holds none. A tombstone stays, and is returned.
-- KEYS: session. ARGV: marker, its time to live (ms), now (ms).
-- Returns a string: the deleted session, or the tombstone; 1: a session of another version was deleted;
-- nil: the key is blocked.
local entry = redis.call('GET', KEYS[1])
if entry then
  local kind = string.byte(entry, 2)
  if #entry < 40 or string.byte(entry, 1) ~= 1 or kind > 1 then
    -- A record of another version may be a live session.
    redis.call('DEL', KEYS[1])
    return 1
  end
  local now = tonumber(ARGV[3])
  local seen_at, idle, ends_at = struct.unpack('>I6I6I6', entry, 17)
  if kind == 1 and ends_at > now then
    return entry
  end
  -- An expired entry is deleted even where a full server refuses the marker.
  redis.call('DEL', KEYS[1])
  if kind == 0 and math.min(seen_at + idle, ends_at) > now then
    return entry
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
