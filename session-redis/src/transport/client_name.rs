use std::sync::{Arc, OnceLock};

use redis::Pipeline;

/// The name by which servers list the connections of this client (`CLIENT LIST`).
///
/// redis-rs sends the name of its library in one piece with all else that sets up a connection, so a proxy that
/// closes the connection for a command that it does not know could not be used. Here the names are sent apart.
#[derive(Clone)]
pub(crate) struct ClientName {
    name: Arc<str>,
    /// Empty until a server has answered, with or without the names.
    is_sent: Arc<OnceLock<bool>>,
}

impl ClientName {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), is_sent: Arc::default() }
    }

    /// Returns the commands that name a connection. Returns `None` if servers are sent no names.
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

    /// Returns `true` unless a server has answered before, with or without the names.
    pub(crate) fn is_untried(&self) -> bool {
        self.is_sent.get().is_none()
    }

    /// Records that a server has answered, and whether it was sent the names. The first time counts.
    pub(crate) fn on_answer(&self, is_sent: bool) {
        let _ = self.is_sent.set(is_sent);
    }
}
