//! Work under the lock of a session, through the layer, on two servers.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use insta::assert_snapshot;
use session_axum::{Key, Session, SessionError, StoreErrorKind};
use session_core::testing::Verb;
use tokio::{sync::Notify, task::JoinHandle};

use crate::support::{Answer, COUNT, Site, settle};

const LEASE: u64 = 10;

/// Returns the answer to a click, and fails if there is none.
async fn answer_to(click: JoinHandle<Answer>) -> Answer {
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, click).await.expect("no answer").unwrap()
}

/// A payment provider: it charges a card once per idempotency key, and answers when the test lets
/// it.
#[derive(Default)]
struct Provider {
    calls: Mutex<Vec<String>>,
    has_charged: Notify,
    may_answer: Notify,
    keys: AtomicU64,
}

impl Provider {
    async fn charge(&self, idempotency_key: &str) {
        self.calls.lock().unwrap().push(idempotency_key.to_owned());
        self.has_charged.notify_one();
        self.may_answer.notified().await;
    }

    fn new_key(&self) -> String {
        format!("payment {}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// The number of times that the card was charged.
    fn charges(&self) -> usize {
        self.calls.lock().unwrap().iter().collect::<BTreeSet<_>>().len()
    }
}

const PAYMENT: Key<String> = Key::new("payment");
const PAID: Key<bool> = Key::new("paid");

async fn pay(
    session: Session,
    provider: Arc<Provider>,
    wait: Duration,
) -> Result<&'static str, SessionError> {
    session
        .locked(wait, async || {
            if session.get(PAID) == Some(true) {
                return Ok("paid before");
            }
            // Stored before the card is charged: a request after a cancelled one repeats this
            // payment.
            let key = session.get(PAYMENT).unwrap_or_else(|| provider.new_key());
            session.set(PAYMENT, &key)?;
            session.commit().await?;
            provider.charge(&key).await;
            session.set(PAID, true)?;
            Ok("paid")
        })
        .await
}

/// Two servers of a shop, with a visitor's session.
struct Shop {
    servers: [Site; 2],
    cookie: String,
    provider: Arc<Provider>,
}

impl Shop {
    async fn open() -> Self {
        let provider = Arc::<Provider>::default();
        let routes = || {
            let (patient, busy) = (Arc::clone(&provider), Arc::clone(&provider));
            let minute = Duration::from_secs(60);
            let seconds = Duration::from_secs(5);
            Router::new()
                .route("/pay", post(async move |s: Session| pay(s, patient, minute).await))
                .route("/pay-soon", post(async move |s: Session| pay(s, busy, seconds).await))
        };
        let first = Site::with_routes(routes());
        let second = first.another_server(routes());
        let cookie = first.begin().await;
        Self { servers: [first, second], cookie, provider }
    }

    /// Clicks: the request runs until it is answered or aborted.
    fn click(&self, server: usize, route: &'static str) -> JoinHandle<Answer> {
        let (site, cookie) = (self.servers[server].clone(), self.cookie.clone());
        tokio::spawn(async move { site.send(route, &cookie).await })
    }

    async fn pass(&self, seconds: u64) {
        self.servers[0].pass(seconds).await;
    }
}

#[tokio::test]
async fn double_click_charges_once() {
    let shop = Shop::open().await;
    let first = shop.click(0, "POST /pay");
    shop.provider.has_charged.notified().await;
    let (same, other) = (shop.click(0, "POST /pay"), shop.click(1, "POST /pay"));
    shop.pass(2).await;
    assert_eq!(shop.provider.calls(), 1, "the others wait");
    shop.provider.may_answer.notify_one();
    assert_eq!(answer_to(first).await.body, "paid");
    shop.pass(2).await;
    assert_eq!(answer_to(same).await.body, "paid before");
    assert_eq!(answer_to(other).await.body, "paid before");
    assert_eq!(shop.provider.calls(), 1);
}

#[tokio::test]
async fn double_click_charges_once_if_the_first_is_cancelled() {
    for server in [0, 1] {
        let shop = Shop::open().await;
        let first = shop.click(0, "POST /pay");
        shop.provider.has_charged.notified().await;
        let second = shop.click(server, "POST /pay");
        settle().await;
        // The card is charged, and the client goes away before the provider has answered.
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        shop.pass(LEASE - 1).await;
        assert_eq!(shop.provider.calls(), 1, "the lease still holds");
        shop.provider.may_answer.notify_one();
        shop.pass(2).await;
        assert_eq!(answer_to(second).await.body, "paid");
        assert_eq!((shop.provider.calls(), shop.provider.charges()), (2, 1));
    }
}

#[tokio::test]
async fn slow_payment_charges_once() {
    let shop = Shop::open().await;
    let first = shop.click(0, "POST /pay-soon");
    shop.provider.has_charged.notified().await;
    for server in [0, 1] {
        shop.pass(LEASE).await;
        let second = shop.click(server, "POST /pay-soon");
        settle().await;
        shop.pass(6).await;
        let refused = answer_to(second).await;
        insta::allow_duplicates! {
            assert_snapshot!(refused.text(), @"
            503 Service Unavailable
            retry-after: 1
            vary: cookie
            another request is being worked on, try again in a moment
            ");
        }
    }
    shop.provider.may_answer.notify_one();
    assert_eq!(answer_to(first).await.body, "paid");
    assert_eq!(answer_to(shop.click(1, "POST /pay")).await.body, "paid before");
    assert_eq!(shop.provider.calls(), 1);
}

#[tokio::test]
async fn work_under_a_lost_lease_is_409_and_not_stored() {
    let shop = Shop::open().await;
    let first = shop.click(0, "POST /pay");
    shop.provider.has_charged.notified().await;
    // The first server does not reach the store in time to prolong the lease.
    shop.servers[0].store.fail(&[Verb::Commit], StoreErrorKind::Unavailable);
    shop.pass(LEASE).await;
    shop.servers[0].store.recover();
    let second = shop.click(1, "POST /pay");
    shop.provider.has_charged.notified().await;
    shop.provider.may_answer.notify_one();
    assert_snapshot!(answer_to(first).await.text(), @"
    409 Conflict
    vary: cookie
    the request took too long, load the page again
    ");
    shop.provider.may_answer.notify_one();
    assert_eq!(answer_to(second).await.body, "paid");
    assert_eq!((shop.provider.calls(), shop.provider.charges()), (2, 1));
}

#[tokio::test]
async fn failed_work_is_not_stored_and_releases_the_lock() {
    let fail = async |session: Session| {
        session
            .locked(Duration::ZERO, async || {
                session.set(COUNT, 9)?;
                Err::<(), _>(SessionError::NotFresh)
            })
            .await
    };
    let count = async |session: Session| {
        session
            .locked(Duration::ZERO, async || session.update(COUNT, |count| *count += 1))
            .await
            .map(|count| count.to_string())
    };
    let routes = Router::new().route("/fail", post(fail)).route("/locked", post(count));
    let site = Site::with_routes(routes);
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /fail", &cookie).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.send("POST /locked", &cookie).await.body, "2");
    assert_eq!(site.send("GET /read", &cookie).await.body, "2");
}

#[tokio::test]
async fn lock_within_a_lock_is_500() {
    let twice = async |session: Session| {
        let inner = || session.locked(Duration::ZERO, async || Ok::<_, SessionError>(()));
        session.locked(Duration::ZERO, async || inner().await).await
    };
    let site = Site::with_routes(Router::new().route("/twice", post(twice)));
    let cookie = site.begin().await;
    assert_snapshot!(site.send("POST /twice", &cookie).await.text(), @"
    500 Internal Server Error
    vary: cookie
    the session cannot be used
    ");
}
