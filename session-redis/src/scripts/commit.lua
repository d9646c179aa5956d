-- Replaces a session that is still at a revision.
-- KEYS: session. ARGV: revision, now (ms), new record, its time to live (ms).
-- Answers 1: replaced; nil: nothing there; a string: what is there instead.
local head = redis.call('GETRANGE', KEYS[1], 0, 39)
if #head == 40 then
  local form, revision, seen_at, idle, ends_at = struct.unpack('>I2I6xxxxxxxxI6I6I6', head)
  local now = ARGV[2] + 0
  if form == 256 then
    if ends_at <= now or seen_at + idle <= now then
      return false
    end
    if revision == ARGV[1] + 0 then
      redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
      return 1
    end
  elseif form == 257 and ends_at <= now then
    return false
  end
elseif head == '' then
  return false
end
return redis.call('GET', KEYS[1])
