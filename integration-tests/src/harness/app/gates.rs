use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::Semaphore;

/// Named gates at which requests wait until a test opens them. A test thus produces a race deliberately,
/// not by chance.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates(Arc<Mutex<BTreeMap<String, Arc<Gate>>>>);

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) arrived: Semaphore,
    pub(super) open: Semaphore,
}

impl Gates {
    pub(super) fn gate(&self, name: &str) -> Arc<Gate> {
        let mut gates = self.0.lock().expect("no holder panics");
        let gate = gates.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) })
        });
        Arc::clone(gate)
    }

    pub(super) async fn pass(&self, name: &str) {
        let gate = self.gate(name);
        gate.arrived.add_permits(1);
        gate.open.acquire().await.expect("never closed").forget();
    }
}
