use redis::Value;

/// The reply to `INFO`: fields in which a server reports its state.
///
/// The fields are missing if the user may not run the command, if the command is renamed, or if a
/// proxy sends another reply.
#[derive(Debug, Default)]
pub(crate) struct Info(String);

impl Info {
    pub(crate) fn read(answer: Value) -> Self {
        match answer {
            Value::BulkString(text) => Self(String::from_utf8_lossy(&text).into_owned()),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => Self(text),
            _ => Self::default(),
        }
    }

    /// Returns the value of a field, or `None` if it is missing or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let value = line.trim_end().strip_prefix(name)?.strip_prefix(':')?;
            (!value.is_empty()).then_some(value)
        })
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Returns the mode of the server: `standalone`, `sentinel` or `cluster`.
    pub(crate) fn mode(&self) -> Option<&str> {
        // `server_mode` is the name in Valkey 8.0 and later, except in compatibility mode.
        self.get("server_mode").or_else(|| self.get("redis_mode"))
    }
}
