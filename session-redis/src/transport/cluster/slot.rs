use redis::{Arg, Cmd};

/// The number of slots in a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// Returns the slot of a command's key. Every routed command of this crate has one key: the first
/// argument, or for a script the argument after the number of keys.
pub(crate) fn slot_of(command: &Cmd) -> u16 {
    let mut args = command.args_iter().map(|arg| match arg {
        Arg::Simple(bytes) => bytes,
        _ => Default::default(),
    });
    let at = match args.next() {
        Some(b"EVAL" | b"EVALSHA") => 2,
        _ => 0,
    };
    slot(args.nth(at).unwrap_or_default())
}

/// Returns the slot of a key. If the key has a hash tag (a non-empty part between its first
/// braces), only the tag is hashed.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    };
    let hash = tag()
        .unwrap_or(key)
        .iter()
        .fold(0_u16, |hash, byte| (hash << 8) ^ TABLE[usize::from((hash >> 8) ^ u16::from(*byte))]);
    hash % SLOTS
}

/// The table of CRC-16/XMODEM, the hash function in the specification of Redis Cluster.
static TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut hash = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            hash = if hash & 0x8000 == 0 { hash << 1 } else { (hash << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = hash;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected slots are the replies of `CLUSTER KEYSLOT` in Redis 7.0.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b""), 0);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{foo}s:abc"), 12_182);
        assert_eq!(slot(b"x{foo}{bar}"), 12_182);
        assert_eq!(slot(b"foo{}{bar}"), 8_363);
        assert_eq!(slot(b"foo{{bar}}zap"), 4_015);
    }

    #[test]
    fn the_key_of_a_script_follows_their_number() {
        let mut get = redis::cmd("GET");
        get.arg("foo");
        let mut call = redis::cmd("EVALSHA");
        call.arg("hash").arg(1).arg("foo").arg("argument");
        assert_eq!((slot_of(&get), slot_of(&call)), (12_182, 12_182));
    }
}
