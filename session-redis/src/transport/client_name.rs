use std::sync::{Arc, OnceLock};

use redis::Pipeline;

/// The name under which servers list the connections of this client (`CLIENT LIST`).
///
/// redis-rs sends the name of its library in one pipeline with the other commands of the set-up.
/// Some proxies close the connection after an unknown command, and would thus be unusable. This
/// client sends the names in a separate pipeline.
#[derive(Clone)]
pub(crate) struct ClientName {
    name: Arc<str>,
    /// Whether servers are sent the names. Empty until a server has replied, with or without the
    /// names.
    is_sent: Arc<OnceLock<bool>>,
}

impl ClientName {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), is_sent: Arc::default() }
    }

    /// Returns the commands that name a connection. Returns `None` if the names are no longer sent.
    pub(crate) fn commands(&self) -> Option<Pipeline> {
        if self.is_sent.get() == Some(&false) {
            return None;
        }
        let mut commands = Pipeline::with_capacity(3);
        commands.cmd("CLIENT").arg("SETNAME").arg(&*self.name);
        for (field, value) in
            [("LIB-NAME", env!("CARGO_PKG_NAME")), ("LIB-VER", env!("CARGO_PKG_VERSION"))]
        {
            commands.cmd("CLIENT").arg("SETINFO").arg(field).arg(value);
        }
        Some(commands)
    }

    /// Returns `true` until a server has replied, with or without the names.
    pub(crate) fn is_untried(&self) -> bool {
        self.is_sent.get().is_none()
    }

    /// Records that a server replied, and whether the names were sent. Only the first record
    /// counts.
    pub(crate) fn on_answer(&self, is_sent: bool) {
        let _ = self.is_sent.set(is_sent);
    }
}
