//! Redis lists the store's connections by a name. Servers without connection names work as well.

use integration_tests::{Fault, FaultProxy, PATIENCE, RedisServer, redis_config, until};
use redis::aio::MultiplexedConnection;
use session_axum::{RedisConfig, RedisStore};

use crate::support::ping;

/// Returns the number of listed connections with this name.
async fn listed(admin: &mut MultiplexedConnection, name: &str) -> usize {
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(admin).await.unwrap();
    list.lines().filter(|line| line.contains(&format!(" name={name} "))).count()
}

#[tokio::test]
async fn each_connection_has_the_name_of_the_store() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let config = || redis_config(redis.url(), PATIENCE);
    let _store = RedisStore::connect(config()).await.unwrap();
    assert_eq!(listed(&mut admin, "session-redis").await, 1);

    let named = config().with_client_name("shop-{1}").unwrap();
    let store = RedisStore::connect(named).await.unwrap();
    assert_eq!(listed(&mut admin, "shop-{1}").await, 1);
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.unwrap();
    // From Redis 7.2 on.
    assert_eq!(list.contains(" lib-name="), list.contains(" lib-name=session-redis "), "{list}");

    let mut kill = redis::cmd("CLIENT");
    kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let _: () = kill.query_async(&mut admin).await.unwrap();
    ping(&store).await.unwrap();
    assert_eq!(listed(&mut admin, "shop-{1}").await, 1, "the next connection has it too");
}

#[tokio::test]
async fn server_that_closes_connections_for_the_name_works() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    proxy.each("client", Fault::CutBefore);
    let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
    assert_eq!(proxy.connections(), 2);
    ping(&store).await.unwrap();
    // The store remembers the cause, so the next connection costs one attempt.
    proxy.cut();
    until("the store has reconnected", async || ping(&store).await.is_ok()).await;
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test]
async fn server_that_answers_the_name_by_an_error_works() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    proxy.each("client", Fault::Answer("-ERR unknown command 'CLIENT'"));
    let config: RedisConfig = redis_config(proxy.url(), PATIENCE);
    let store = RedisStore::connect(config).await.unwrap();
    ping(&store).await.unwrap();
    assert_eq!(proxy.connections(), 1);
}

/// A starting server closes connections as well. The store omits the name for that attempt only.
#[tokio::test]
async fn server_that_closed_connections_for_a_while_gets_the_name() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    for command in ["client", "ping"] {
        proxy.each(command, Fault::CutBefore);
    }
    let store = RedisStore::connect_lazy(redis_config(proxy.url(), PATIENCE)).unwrap();
    ping(&store).await.unwrap_err();
    for command in ["client", "ping"] {
        proxy.each(command, None);
    }
    until("the store has connected", async || ping(&store).await.is_ok()).await;
    assert_eq!(listed(&mut redis.connection().await, "session-redis").await, 1);
}
