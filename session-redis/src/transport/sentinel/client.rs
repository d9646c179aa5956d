use std::{collections::HashMap, convert::Infallible, sync::Arc};

use redis::{Pipeline, PushInfo, RedisError, RedisResult, Value};
use tokio::{sync::Mutex, time::timeout};

use super::failover_watch::{Address, CHANNELS, FailoverWatch, Named};
use crate::{
    error::ConnectError,
    transport::{
        access::Endpoint,
        connector::{connect_listening, is_lasting},
        limits::Limits,
        socket::Socket,
    },
};

/// A client of one sentinel. Announcements of failovers arrive over the same connection.
pub(super) struct SentinelClient {
    endpoint: Endpoint,
    watch: Arc<FailoverWatch>,
    limits: Limits,
    /// Empty during a request, so that a connection with an outstanding reply is never reused.
    connection: Mutex<Option<Socket>>,
}

impl SentinelClient {
    pub(super) fn new(endpoint: Endpoint, watch: &Arc<FailoverWatch>, limits: Limits) -> Self {
        Self { endpoint, watch: Arc::clone(watch), limits, connection: Mutex::default() }
    }

    /// Returns the primary that the sentinel names, within the connect timeout, and reports the
    /// primary to the watch.
    pub(super) async fn ask(self: Arc<Self>) -> Result<Named, ConnectError> {
        let limit = self.limits.connect;
        let named = timeout(limit, self.answer()).await.unwrap_or_else(|_| {
            Err(ConnectError::silent(&self.endpoint.addr().to_string(), limit))
        })?;
        self.watch.on_answer(&named);
        Ok(named)
    }

    async fn answer(&self) -> Result<Named, ConnectError> {
        let mut connection = self.connection.lock().await;
        if let Some(mut kept) = connection.take()
            && let Ok(Ok(named)) = timeout(self.limits.response, self.answer_over(&mut kept)).await
        {
            *connection = Some(kept);
            return Ok(named);
        }
        let mut new = self.connect().await.map_err(|error| self.explain(error))?;
        let named = self.answer_over(&mut new).await?;
        *connection = Some(new);
        Ok(named)
    }

    async fn answer_over(&self, connection: &mut Socket) -> Result<Named, ConnectError> {
        let name = self.watch.name();
        let mut questions = Pipeline::with_capacity(2);
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        questions.cmd("SENTINEL").arg("MASTER").arg(name);
        let explain = |error| self.explain(error);
        let mut answers = connection.send_all(&questions).await.map_err(explain)?.into_iter();
        let primary = answers.next().unwrap_or(Ok(Value::Nil)).map_err(explain)?;
        let primary = redis::from_redis_value::<Option<Address>>(primary).ok().flatten();
        // The sentinel may permit this user only the first command.
        let epoch = answers.next().and_then(Result::ok).and_then(|state| {
            let state = redis::from_redis_value::<HashMap<String, String>>(state).ok()?;
            state.get("config-epoch")?.parse().ok()
        });
        match primary {
            Some(address) => Ok(Named { epoch: epoch.unwrap_or_default(), address }),
            None => Err(ConnectError::misconfigured(format!(
                "the sentinel at {} knows no primary of the name {name:?}: \
                 `SENTINEL MASTERS` tells the names",
                self.endpoint.addr()
            ))),
        }
    }

    /// Connects, and subscribes to the steps of failovers if the sentinel permits the subscription.
    async fn connect(&self) -> RedisResult<Socket> {
        let watch = Arc::clone(&self.watch);
        let listener = move |message: PushInfo| {
            watch.on_message(&message);
            Ok::<_, Infallible>(())
        };
        let mut subscriptions = Pipeline::with_capacity(CHANNELS.len());
        for channel in CHANNELS {
            subscriptions.cmd("SUBSCRIBE").arg(channel);
        }
        match connect_listening(&self.endpoint, listener, &subscriptions, self.limits).await {
            Err(refusal) if is_lasting(&refusal) => {
                tracing::warn!(
                    target: "session",
                    sentinel = %self.endpoint.addr(),
                    reason = ?refusal.kind(),
                    "a sentinel does not announce failovers (RESP3, SUBSCRIBE): it is asked once a second"
                );
                Socket::connect(&self.endpoint, self.limits).await
            }
            result => result,
        }
    }

    fn explain(&self, error: RedisError) -> ConnectError {
        let address = self.endpoint.addr().to_string();
        if crate::server_error::is_unknown_command(&error) {
            return ConnectError::misconfigured(format!(
                "the server at {address} is no sentinel: `RedisConfig::new` is for servers"
            ));
        }
        ConnectError::explain(error, &address)
    }
}
