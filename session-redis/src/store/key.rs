use std::io::Write as _;

use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};
use session_core::SessionKey;

/// The key of a session in Redis. Prefix and session key are joined only when the key is written to
/// a command.
pub(crate) struct RedisKey<'s> {
    pub(crate) prefix: &'s str,
    pub(crate) session: &'s SessionKey,
}

impl RedisKey<'_> {
    pub(crate) fn len(&self) -> usize {
        self.prefix.len() + SessionKey::TEXT_LEN
    }
}

impl ToRedisArgs for RedisKey<'_> {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        let mut key = out.writer_for_next_arg();
        self.session
            .with_text(|text| {
                key.write_all(self.prefix.as_bytes()).and_then(|()| key.write_all(text.as_bytes()))
            })
            .expect("a command is written to memory");
    }
}

impl ToSingleRedisArg for RedisKey<'_> {}
