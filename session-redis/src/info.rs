use redis::Value;

/// The answer to `INFO`: fields that a server reports of itself.
///
/// It is empty where the user may not ask, where the command is renamed, and where a proxy answers otherwise.
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

    /// Returns how the server is run: `standalone`, `sentinel` or `cluster`.
    pub(crate) fn mode(&self) -> Option<&str> {
        // Valkey has called it so since 8.0, unless it is set to be compatible.
        self.get("server_mode").or_else(|| self.get("redis_mode"))
    }
}
