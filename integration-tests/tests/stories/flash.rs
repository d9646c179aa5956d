//! Messages that are shown once, over real HTTP, through several servers with one store.

use std::collections::BTreeSet;

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use futures_util::future::join_all;
use integration_tests::Browser;
use session_axum::{FlashLevel, Session, SessionError};

use crate::support::{TestStore, on_each_store, serve_router};

async fn save(session: Session, Path(text): Path<String>) -> Result<(), SessionError> {
    session.flash(FlashLevel::Success, text)
}

async fn page(session: Session) -> Result<String, SessionError> {
    let flashes = session.take_flashes().await?;
    Ok(flashes.iter().map(|flash| format!("{} ", flash.text())).collect())
}

async fn server(store: &TestStore) -> Browser {
    let app = Router::new().route("/save/{text}", post(save)).route("/page", get(page));
    Browser::new(serve_router(app.layer(store.layer().await)).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pages_show_each_message_once() {
    on_each_store(async |store| {
        let (one, other) = (server(store).await, server(store).await);
        one.post("/save/first").await.ok();
        let other = one.at(other.addr());
        for round in 0..10 {
            let texts: BTreeSet<String> =
                (0..6).map(|number| format!("{round}-{number}")).collect();
            one.get("/page").await.ok();
            let servers = [&one, &other];
            let save = |(place, text): (usize, &String)| {
                let (server, path) = (servers[place % 2], format!("/save/{text}"));
                async move { server.post(&path).await.ok() }
            };
            join_all(texts.iter().enumerate().map(save)).await;
            let pages =
                (0..10).map(async |place: usize| servers[place % 2].get("/page").await.ok().body);
            let shown = join_all(pages).await.concat();
            let shown: Vec<_> = shown.split_whitespace().map(str::to_owned).collect();
            assert_eq!(shown.len(), texts.len(), "{shown:?}");
            assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), texts);
        }
    })
    .await;
}
