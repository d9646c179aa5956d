-- Notes that a session was used, in place: its values are neither read nor written.
-- KEYS: session. ARGV: now (ms), now (6 bytes).
-- Answers 1: noted; 0: no session there.
local head = redis.call('GETRANGE', KEYS[1], 0, 39)
if #head < 40 or string.byte(head, 1) ~= 1 or string.byte(head, 2) ~= 0 then
  return 0
end
local now = tonumber(ARGV[1])
local seen_at, idle, ends_at = struct.unpack('>I6I6I6', head, 17)
if math.min(seen_at + idle, ends_at) <= now then
  return 0
end
if now > seen_at then
  -- A full server refuses `SETRANGE` as the first write of a script, and not after another one.
  redis.call('PEXPIRE', KEYS[1], math.min(now + idle, ends_at) - now)
  redis.call('SETRANGE', KEYS[1], 16, ARGV[2])
end
return 1
