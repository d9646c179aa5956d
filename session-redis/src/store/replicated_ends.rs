use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{Cmd, Value, cmd};
use session_core::{StoreError, StoreErrorKind};
use tokio::sync::oneshot;

use crate::{
    RedisConfig,
    error::{timeout, unexpected},
    near_cache::Tracking,
    transport::Connection,
};

/// Carries out what ends sessions, and answers when enough replicas have it.
///
/// `WAIT` keeps all commands behind it on its connection waiting, so this is a connection apart from that of
/// the other commands, and all that is asked for while one `WAIT` is under way shares the next one. What ends
/// sessions and its `WAIT` are sent together, and so are never on two connections, of which the second could
/// lead to another server.
pub(crate) struct ReplicatedEnds(Arc<Shared>);

struct Shared {
    connection: Connection,
    replicas: u32,
    wait: Duration,
    channel: String,
    max_waiting: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    is_worked_on: bool,
}

struct Waiting {
    commands: Vec<Cmd>,
    answers: oneshot::Sender<Answers>,
}

type Answers = Result<Vec<Result<Value, StoreError>>, StoreError>;

impl ReplicatedEnds {
    /// Returns `None` if no replica is to be waited for.
    pub(crate) fn new(config: &RedisConfig) -> Result<Option<Self>, StoreError> {
        let Some((replicas, wait)) = config.revocation_replicas else { return Ok(None) };
        #[cfg(feature = "cluster")]
        if matches!(config.place, crate::config::Place::Cluster(_)) {
            return Err(StoreError::new(StoreErrorKind::Misconfigured).with_source(
                "revocations wait for the replicas of one primary, not for a cluster's",
            ));
        }
        let mut patient = config.clone();
        patient.response_timeout += wait;
        // An operation has room for one repetition.
        patient.operation_timeout += 2 * wait;
        let shared = Shared {
            // Nothing is read over it.
            connection: Connection::new(&patient, &Tracking::default())?,
            replicas,
            wait,
            channel: format!("{}wait", config.prefix),
            max_waiting: config.max_waiting,
            queue: Mutex::default(),
        };
        Ok(Some(Self(Arc::new(shared))))
    }

    /// Connects, and makes sure that replicas may be waited for.
    pub(crate) async fn connect(&self) -> Result<(), StoreError> {
        self.0.connection.connect().await?;
        match self.0.round(Vec::new()).await {
            Err(error) if error.kind() == StoreErrorKind::Unreplicated => tracing::warn!(
                target: "session",
                replicas = self.0.replicas,
                "fewer replicas follow this Redis than revocations wait for: each will fail"
            ),
            answers => drop(answers?),
        }
        Ok(())
    }

    /// Carries out commands, and waits for the replicas. A failure of one does not keep the next from being
    /// carried out. Goes on if nobody waits for it any more.
    pub(crate) async fn run(&self, commands: Vec<Cmd>) -> Answers {
        let (sender, answers) = oneshot::channel();
        {
            let mut queue = self.0.queue();
            if queue.waiting.len() >= self.0.max_waiting {
                return Err(StoreError::new(StoreErrorKind::Unavailable)
                    .with_source("too many revocations wait for Redis"));
            }
            queue.waiting.push(Waiting { commands, answers: sender });
            if !queue.is_worked_on {
                queue.is_worked_on = true;
                let worker = Worker { shared: Arc::clone(&self.0), is_done: false };
                tokio::spawn(worker.work());
            }
        }
        // Its worker is gone only with the runtime.
        answers.await.unwrap_or_else(|_| Err(timeout()))
    }

    /// As [`run`](Self::run), with one command.
    pub(crate) async fn run_one(&self, command: Cmd) -> Result<Value, StoreError> {
        self.run(vec![command]).await?.pop().unwrap_or_else(|| Err(unexpected()))
    }
}

/// Works on the queue until it is empty.
struct Worker {
    shared: Arc<Shared>,
    /// It has left the queue to the next one.
    is_done: bool,
}

impl Worker {
    async fn work(mut self) {
        loop {
            let waiting = {
                let mut queue = self.shared.queue();
                queue.is_worked_on = !queue.waiting.is_empty();
                std::mem::take(&mut queue.waiting)
            };
            if waiting.is_empty() {
                self.is_done = true;
                return;
            }
            let (commands, waiting): (Vec<_>, Vec<_>) =
                waiting.into_iter().map(|one| (one.commands, one.answers)).unzip();
            let counts: Vec<_> = commands.iter().map(Vec::len).collect();
            let answers = self.shared.round(commands.into_iter().flatten().collect()).await;
            let mut answers = answers.map(Vec::into_iter);
            for (sender, count) in waiting.into_iter().zip(counts) {
                // Whoever does not wait any more has no use for it.
                let _ = sender.send(match &mut answers {
                    Ok(answers) => Ok(answers.by_ref().take(count).collect()),
                    Err(error) => Err(error.clone()),
                });
            }
        }
    }
}

impl Drop for Worker {
    /// A runtime that ends takes its tasks with it: who waits in another one must not wait for ever.
    fn drop(&mut self) {
        if !self.is_done {
            *self.shared.queue() = Queue::default();
        }
    }
}

impl Shared {
    /// Sends commands and, behind them, what tells how many replicas have them.
    async fn round(&self, commands: Vec<Cmd>) -> Answers {
        let mut all = commands;
        // What was ended before, by an attempt that is repeated now, is no write any more, and `WAIT` looks
        // back no further than to the last write of its connection. This is one that changes nothing, and
        // that a full server takes too.
        let mut mark = cmd("PUBLISH");
        mark.arg(&self.channel).arg("");
        let mut wait = cmd("WAIT");
        wait.arg(self.replicas).arg(whole_millis(self.wait));
        all.extend([mark, wait]);

        let mut answers = self.connection.write_together(all).await?;
        let (confirmed, marked) = (answers.pop(), answers.pop());
        let (Some(confirmed), Some(marked)) = (confirmed, marked) else { return Err(unexpected()) };
        let missing = match (marked, confirmed) {
            (Ok(_), Ok(Value::Int(count))) if count >= i64::from(self.replicas) => {
                return Ok(answers);
            }
            (Ok(_), Ok(Value::Int(count))) => StoreError::new(StoreErrorKind::Unreplicated)
                .with_source(format!(
                    "done here, but {count} of {} replicas confirmed it within {:?}",
                    self.replicas, self.wait
                )),
            (Err(error), _) | (_, Err(error)) if answers.is_empty() => return Err(error),
            (Err(error), _) | (_, Err(error)) => {
                StoreError::new(StoreErrorKind::Unreplicated).with_source(error)
            }
            (Ok(_), Ok(_)) => unexpected(),
        };
        if answers.is_empty() {
            return Err(missing);
        }
        // What a command itself came to nothing by is worth more.
        Ok(answers.into_iter().map(|answer| answer.and_then(|_| Err(missing.clone()))).collect())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change is complete before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up: zero would be for ever.
fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_for_ever() {
        for (nanos, millis) in [(1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(whole_millis(Duration::from_nanos(nanos)), millis);
        }
    }
}
