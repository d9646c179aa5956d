use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connection::connect;

/// The number of commands that clients sent to a server between two points in time, by name.
///
/// A script counts as one `evalsha` or `eval`. Commands that the server refused to execute (`OOM`, wrong
/// number of arguments) do not count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandCounts {
    by_name: BTreeMap<String, u64>,
}

impl CommandCounts {
    /// Returns the total number of commands.
    pub fn total(&self) -> u64 {
        self.by_name.values().sum()
    }

    /// Returns the number of commands of this name. Names are written as in `INFO commandstats`: lower
    /// case, `client|setinfo`.
    pub fn of(&self, name: &str) -> u64 {
        self.by_name.get(name).copied().unwrap_or_default()
    }

    /// Returns the names of the commands with their counts, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_name.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

impl fmt::Display for CommandCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.by_name).finish()
    }
}

/// A point in the life of one server, from which commands are counted.
#[derive(Clone, Debug)]
pub struct CommandMark {
    /// The monitor that made the mark. Another monitor has seen other calls.
    monitor: u64,
    /// Counts since the server's start, without the calls of scripts since the monitor's start.
    sent: BTreeMap<String, u64>,
}

impl CommandMark {
    pub(super) fn since(&self, before: &Self) -> CommandCounts {
        assert_eq!(
            self.monitor, before.monitor,
            "Redis was ended since the mark: counts began anew"
        );
        let by_name = self.sent.iter().filter_map(|(name, &now)| {
            let count = now - before.sent.get(name).copied().unwrap_or_default();
            (count > 0).then(|| (name.clone(), count))
        });
        CommandCounts { by_name: by_name.collect() }
    }
}

/// Watches the calls of scripts, because the server's statistics do not separate them from the commands
/// of clients.
#[derive(Debug)]
pub(super) struct Monitor {
    id: u64,
    connection: MultiplexedConnection,
    marks: u64,
    seen: mpsc::UnboundedReceiver<(String, BTreeMap<String, u64>)>,
    reader: JoinHandle<()>,
}

impl Monitor {
    pub(super) async fn open(url: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let connection = connect(url).await.expect("the Redis of this test accepts a connection");
        let monitor = redis::Client::open(url)
            .expect("a URL made by the harness")
            .get_async_monitor()
            .await
            .expect("the Redis of this test can be monitored");
        let mut lines = Box::pin(monitor.into_on_message::<String>());
        let (sender, seen) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            let mut calls = BTreeMap::<String, u64>::new();
            while let Some(line) = lines.next().await {
                match Call::parse(&line) {
                    Some(Call::Script { name, sub }) => {
                        *calls.entry(name.clone()).or_default() += 1;
                        if let Some(sub) = sub {
                            *calls.entry(format!("{name}|{sub}")).or_default() += 1;
                        }
                    }
                    Some(Call::Mark(token)) => {
                        let taken = sender.send((token, calls.clone()));
                        if taken.is_err() {
                            return;
                        }
                    }
                    None => {}
                }
            }
        });
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), connection, marks: 0, seen, reader }
    }

    pub(super) async fn mark(&mut self) -> Result<CommandMark, String> {
        // A script is atomic: no command comes between its line in the monitor and its statistics.
        let token = format!("{MARK}{}:{}", self.id, self.marks);
        let statistics: String = redis::cmd("EVAL")
            .arg("return redis.call('INFO', 'commandstats')")
            .arg(0)
            .arg(&token)
            .query_async(&mut self.connection)
            .await
            .map_err(|error| error.to_string())?;
        let by_scripts = loop {
            match timeout(Duration::from_secs(30), self.seen.recv()).await {
                Ok(Some((seen, calls))) if seen == token => break calls,
                Ok(Some(_)) => {}
                Ok(None) => return Err("the monitor's connection ended".to_owned()),
                Err(_) => return Err("the monitor did not see the mark".to_owned()),
            }
        };
        let own = self.marks;
        self.marks += 1;
        let mut sent = parse(&statistics);
        for (name, calls) in by_scripts {
            if let Some(count) = sent.get_mut(&name) {
                *count = count.saturating_sub(calls);
            }
        }
        if let Some(count) = sent.get_mut("eval") {
            *count -= own;
        }
        Ok(CommandMark { monitor: self.id, sent })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A line of the monitor's stream, of one of the two relevant kinds.
#[derive(Debug, PartialEq)]
enum Call {
    Script { name: String, sub: Option<String> },
    Mark(String),
}

impl Call {
    /// Parses `1795385815.645935 [0 lua] "info" "commandstats"`; every argument is quoted and escaped.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(" [")?;
        let (source, command) = rest.split_once("] ")?;
        let mut words = command.split(' ').map(|word| word.trim_matches('"').to_lowercase());
        if source.ends_with(" lua") {
            return Some(Self::Script { name: words.next()?, sub: words.next() });
        }
        let token = words.next_back()?;
        token.starts_with(MARK).then_some(Self::Mark(token))
    }
}

/// Parses lines such as `cmdstat_client|setinfo:calls=2,usec=5,…`.
fn parse(statistics: &str) -> BTreeMap<String, u64> {
    let calls = statistics.lines().filter_map(|line| {
        let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let calls = fields.strip_prefix("calls=")?.split(',').next()?;
        Some((name.to_owned(), calls.parse().ok()?))
    });
    calls.collect()
}

const MARK: &str = "integration-tests:mark:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitor_lines_tell_scripts_from_clients() {
        let inner = r#"1.5 [0 lua] "HGET" "a key" "] lua""#;
        let sub = Some("a".to_owned());
        assert_eq!(Call::parse(inner), Some(Call::Script { name: "hget".to_owned(), sub }));
        assert_eq!(Call::parse(r#"1.5 [0 127.0.0.1:9] "set" "k" "[0 lua] \"get\"""#), None);
        let mark = r#"1.5 [0 127.0.0.1:9] "EVAL" "..." "0" "integration-tests:mark:0:7""#;
        assert_eq!(Call::parse(mark), Some(Call::Mark("integration-tests:mark:0:7".to_owned())));
    }
}
