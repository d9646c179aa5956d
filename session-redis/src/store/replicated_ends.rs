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
    tracking::Tracking,
    transport::Connection,
};

/// Runs commands that end sessions, and returns after enough replicas have confirmed them.
///
/// `WAIT` blocks all later commands on the connection, so the ends of sessions have a connection of
/// their own. Commands that arrive during a `WAIT` share the next one. The commands and the `WAIT`
/// are sent together, and therefore over the same connection. A second connection could lead to
/// another server.
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
    /// Creates the connection for the ends of sessions. Returns `None` if the configuration waits
    /// for no replicas.
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
        // The time of an operation includes one repetition.
        patient.operation_timeout += 2 * wait;
        let shared = Shared {
            // The connection is used for writes only, so the near cache does not track it.
            connection: Connection::new(&patient, &Tracking::default())?,
            replicas,
            wait,
            channel: format!("{}wait", config.prefix),
            max_waiting: config.max_waiting,
            queue: Mutex::default(),
        };
        Ok(Some(Self(Arc::new(shared))))
    }

    /// Connects, checks that the server permits the commands of the wait, and logs a warning if too
    /// few replicas follow the server.
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

    /// Runs commands, and waits for the replicas. If a command fails, the others still run. The
    /// commands also run if the caller stops waiting.
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
        // The worker drops the sender only if its runtime ends.
        answers.await.unwrap_or_else(|_| Err(timeout()))
    }

    /// Does the same as [`run`](Self::run) for one command.
    pub(crate) async fn run_one(&self, command: Cmd) -> Result<Value, StoreError> {
        self.run(vec![command]).await?.pop().unwrap_or_else(|| Err(unexpected()))
    }
}

/// A task that processes the queue until the queue is empty.
struct Worker {
    shared: Arc<Shared>,
    /// `true` after the worker has left the queue to its successor.
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
                // A caller that has stopped waiting needs no reply.
                let _ = sender.send(match &mut answers {
                    Ok(answers) => Ok(answers.by_ref().take(count).collect()),
                    Err(error) => Err(error.clone()),
                });
            }
        }
    }
}

impl Drop for Worker {
    /// If the runtime of the worker ends, callers in other runtimes must not wait forever.
    fn drop(&mut self) {
        if !self.is_done {
            *self.shared.queue() = Queue::default();
        }
    }
}

impl Shared {
    /// Sends commands, followed by `PUBLISH` and `WAIT`, which reports the number of replicas that
    /// have the commands.
    async fn round(&self, commands: Vec<Cmd>) -> Answers {
        let mut all = commands;
        // `WAIT` covers only writes up to the last write of its own connection. If an earlier
        // attempt has already ended the session, the repeated command writes nothing. `PUBLISH` is
        // replicated like a write, changes no data, and is accepted by a full server.
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
        // The error of a command takes precedence over the missing confirmation.
        Ok(answers.into_iter().map(|answer| answer.and_then(|_| Err(missing.clone()))).collect())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A poisoned lock is safe to use: every change of the queue is complete before a panic can
        // happen.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounds up, because zero makes `WAIT` wait forever.
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
