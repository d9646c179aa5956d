//! The example of [`Session::locked`]: in every failure of a request, the card is charged once.

use std::{collections::BTreeSet, pin::Pin, sync::Mutex, task::Poll};

use session_core::Key;

use super::*;
use crate::support::{StepClock, Steps, interleavings, run, steps, turn};

const PAYMENT: Key<String> = Key::new("payment");
const PAID: Key<bool> = Key::new("paid");

/// A service that charges a card once per idempotency key.
#[derive(Default)]
struct Cards {
    charged: Mutex<BTreeSet<String>>,
    calls: AtomicUsize,
}

impl Cards {
    fn accept(&self, payment: &str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.charged.lock().unwrap().insert(payment.to_owned());
    }

    fn charges(&self) -> usize {
        self.charged.lock().unwrap().len()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Pays like the example in the documentation of [`Session::locked`].
async fn pay(session: &Session, wait: Duration, charge: impl AsyncFnOnce(&str)) -> Result {
    session
        .locked(wait, async || {
            if session.get(PAID) == Some(true) {
                return Ok(());
            }
            let payment = session.get(PAYMENT).unwrap_or_else(new_payment);
            session.set(PAYMENT, &payment)?;
            session.commit().await?;
            charge(&payment).await;
            session.set(PAID, true)
        })
        .await
}

/// Returns a new idempotency key.
fn new_payment() -> String {
    static PAYMENTS: AtomicUsize = AtomicUsize::new(0);
    format!("payment {}", PAYMENTS.fetch_add(1, Ordering::Relaxed))
}

async fn is_paid(world: &World, id: &SessionId) -> bool {
    world.open(id).await.get(PAID) == Some(true)
}

/// The client disconnects after the charge, and its second click arrives with the next request.
#[tokio::test]
async fn double_click_after_a_cancelled_payment_charges_once() {
    let world = World::new();
    let id = world.visitor().await;
    let (cards, clicked) = (Cards::default(), world.open(&id).await);
    {
        let charge = async |payment: &str| {
            cards.accept(payment);
            pending::<()>().await;
        };
        let mut first = pin!(pay(&clicked, NO_WAIT, charge));
        tokio::select! {
            biased;
            _ = &mut first => panic!("the service does not answer"),
            () = tokio::task::yield_now() => {}
        }
    }
    clicked.close();
    drop(clicked);
    assert_eq!(cards.calls(), 1);

    let second = world.open(&id).await;
    let charge = async |payment: &str| cards.accept(payment);
    let (result, _) = with_time(&world, pay(&second, 5 * SECOND, charge)).await;
    assert!(is_locked(&result), "the first payment may be under way: {result:?}");
    assert_eq!(cards.calls(), 1);

    let (result, _) = with_time(&world, pay(&second, 10 * SECOND, charge)).await;
    result.unwrap();
    assert_eq!((cards.calls(), cards.charges()), (2, 1), "the same payment, sent twice");
    assert!(is_paid(&world, &id).await);
}

#[tokio::test]
async fn payment_longer_than_the_lease_charges_once() {
    let world = World::new();
    let id = world.visitor().await;
    let (cards, first) = (Cards::default(), world.open(&id).await);
    for other_process in [false, true] {
        let other = world.other_process();
        let second = if other_process { other.open(&id).await } else { world.open(&id).await };
        let slow = async |payment: &str| {
            world.clock.sleep(3 * LEASE).await;
            cards.accept(payment);
        };
        let both = async {
            tokio::join!(
                pay(&first, NO_WAIT, slow),
                pay(&second, 4 * LEASE, async |payment| cards.accept(payment)),
            )
        };
        let ((paid, waited), _) = with_time(&world, both).await;
        paid.unwrap();
        waited.unwrap();
        assert_eq!((cards.calls(), cards.charges()), (1, 1), "the second sees that it is paid");
        assert!(is_paid(&world, &id).await);
    }
}

/// The process pauses between the charge and the commit, and another request pays meanwhile.
#[tokio::test]
async fn process_paused_for_longer_than_the_lease_charges_once() {
    for pauses_before_the_charge in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let cards = Cards::default();
        let (first, second) = (world.open(&id).await, world.other_process().open(&id).await);
        let pause = async || {
            world.wait(LEASE);
            pay(&second, NO_WAIT, async |payment| cards.accept(payment)).await.unwrap();
        };
        let charge = async |payment: &str| {
            if pauses_before_the_charge {
                pause().await;
                cards.accept(payment);
            } else {
                cards.accept(payment);
                pause().await;
            }
        };
        let result = pay(&first, NO_WAIT, charge).await;
        assert!(is_lost(&result), "{result:?}");
        assert_eq!((cards.calls(), cards.charges()), (2, 1));
        assert!(is_paid(&world, &id).await);
    }
}

/// A request without a lock writes just before the payment's first commit. The commit is replayed.
#[tokio::test]
async fn payment_whose_first_commit_is_replayed_charges_once() {
    let world = World::new();
    let id = world.visitor().await;
    let (cards, first) = (Cards::default(), world.open(&id).await);
    let (other, same) = (world.other_process(), id.clone());
    world.store.before_nth(2, Verb::Commit, move || async move {
        other.change(&same, |session| session.set(NOTE, "between")).await;
    });
    let charge = async |payment: &str| {
        cards.accept(payment);
        world.wait(LEASE);
    };
    assert!(is_lost(&pay(&first, NO_WAIT, charge).await));
    let again = world.open(&id).await;
    pay(&again, NO_WAIT, async |payment| cards.accept(payment)).await.unwrap();
    assert_eq!((cards.calls(), cards.charges()), (2, 1));
    assert_eq!(again.get(NOTE).as_deref(), Some("between"));
}

type Request = Pin<Box<dyn Future<Output = Option<Result>>>>;

struct Shop {
    processes: [Sessions; 2],
    id: SessionId,
    cards: Cards,
}

impl Shop {
    fn new() -> Arc<Self> {
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let (store, clock) = (Arc::new(steps()), Arc::new(StepClock(clock)));
        let processes = std::array::from_fn(|_| {
            let sessions = Sessions::builder(Arc::<Steps>::clone(&store));
            sessions.with_clock(Arc::clone(&clock)).build().unwrap()
        });
        let id = run(async {
            let session = processes[0].open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            told(session.finish().await.unwrap())
        });
        Arc::new(Self { processes, id, cards: Cards::default() })
    }

    /// Returns a click on "pay". The request is dropped after `steps` steps, unless it completes
    /// before.
    fn click(self: &Arc<Self>, process: usize, steps: usize) -> Request {
        let shop = Arc::clone(self);
        let request = async move {
            let session = shop.processes[process].open([shop.id.expose().as_bytes()]).await?;
            let charge = async |payment: &str| {
                turn().await;
                shop.cards.accept(payment);
                turn().await;
            };
            pay(&session, 60 * SECOND, charge).await?;
            session.finish().await.map(drop)
        };
        let mut request = Some(Box::pin(request));
        let mut left = steps;
        Box::pin(std::future::poll_fn(move |context| {
            let Some(running) = &mut request else { panic!("it was polled again") };
            if left == 0 {
                request = None;
                return Poll::Ready(None);
            }
            left -= 1;
            running.as_mut().poll(context).map(Some)
        }))
    }
}

/// The first request is cancelled after each number of steps, while the second is under way.
#[test]
fn two_clicks_in_any_order_charge_once_if_one_is_cancelled() {
    let repeated = AtomicUsize::new(0);
    for process in [0, 1] {
        for steps in 0..16 {
            let make = || {
                let shop = Shop::new();
                let requests = [shop.click(0, steps), shop.click(process, usize::MAX)];
                (shop, requests)
            };
            interleavings(7, make, |shop, [first, second], order| {
                let context = format!("{steps} steps, {order:?}: {first:?}, {second:?}");
                assert!(matches!(second, Some(Ok(()))), "{context}");
                assert!(matches!(first, None | Some(Ok(()))), "{context}");
                assert_eq!(shop.cards.charges(), 1, "{context}");
                if shop.cards.calls() > 1 {
                    assert!(first.is_none(), "{context}");
                    repeated.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    assert!(repeated.into_inner() > 0, "no request was cancelled after its charge");
}
