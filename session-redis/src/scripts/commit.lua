-- Replaces a session that is still at a revision.
-- KEYS: session. ARGV: revision (6 bytes), now (ms), new record, its time to live (ms).
-- Answers 1: replaced; nil: nothing there; a string: what is there instead.
local head = redis.call('GETRANGE', KEYS[1], 0, 39)
if head == '' then
  return false
end
if #head == 40 and string.byte(head, 1) == 1 then
  local seen_at, idle, ends_at = struct.unpack('>I6I6I6', head, 17)
  local is_session = string.byte(head, 2) == 0
  if is_session and seen_at + idle < ends_at then
    ends_at = seen_at + idle
  end
  if ends_at <= tonumber(ARGV[2]) then
    return false
  end
  if is_session and string.sub(head, 3, 8) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
    return 1
  end
end
return redis.call('GET', KEYS[1])
