//! Attacks on the protocol, and defects found by attacks.

use session_core::{
    CookieChange, Entry, Lifetime, Record, Session, SessionError, SessionId, StoreErrorKind,
};

use crate::support::{Fault, NOTE, SECOND, TOKEN, VISITS, Verb, World, told};

/// The recorded change of a request held back by an attacker: the attacker has sent its headers,
/// but not its body.
type Held = fn(&Session, &World) -> Result<(), SessionError>;

/// The changes that would move the session, as a route for a change of privileges does.
const MOVES: [(&str, Held); 3] = [
    ("authenticate as the victim", |held, _| held.authenticate("victim")),
    ("authenticate as another", |held, _| held.authenticate("mallory")),
    ("rotate", |held, _| held.rotate()),
];

/// The changes that would change the victim's session without a move.
const CHANGES: [(&str, Held); 4] = [
    ("set_lifetime", |held, _| held.set_lifetime(Lifetime::remember_me())),
    ("end_by", |held, world| held.end_by(world.sessions_now() + SECOND)),
    ("clear", |held, _| held.clear()),
    ("renew", |held, _| held.renew()),
];

/// The ID known to the attacker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Known {
    /// The attacker gave the victim's browser a visitor's ID (session fixation).
    Planted,
    /// The attacker copied the victim's cookie.
    Stolen,
}

/// The victim's request that must shut the attacker out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Defence {
    /// A login, as after a change of the password.
    Login,
    /// A change of privileges.
    Rotate,
    /// A login after a renewal: the attacker's request finds two tombstones.
    RenewAndLogin,
}

const DEFENCES: [Defence; 3] = [Defence::Login, Defence::Rotate, Defence::RenewAndLogin];

/// An attacker's request that loaded the session before the victim's defence and commits after it.
struct Attack {
    name: String,
    known: Known,
    defence: Defence,
    world: World,
    held: Session,
    old: SessionId,
    new: SessionId,
}

impl Attack {
    async fn new(known: Known, defence: Defence, carries_over: bool) -> Self {
        let world = World::with(|sessions| sessions.with_carry_over(carries_over));
        let old = match known {
            Known::Planted => world.visitor().await,
            Known::Stolen => world.user("victim").await,
        };
        let held = world.open(&old).await;
        let mut id = old.clone();
        if defence == Defence::RenewAndLogin {
            id = world.renew(&id).await;
        }
        let victim = world.open(&id).await;
        match defence {
            Defence::Rotate => victim.rotate().unwrap(),
            Defence::Login | Defence::RenewAndLogin => victim.authenticate("victim").unwrap(),
        }
        victim.set(TOKEN, "secret").unwrap();
        let new = told(victim.finish().await.unwrap());
        world.wait(SECOND);
        let name = format!("{known:?} and {defence:?}, carrying over: {carries_over}");
        Self { name, known, defence, world, held, old, new }
    }

    /// Returns every kind of attack.
    async fn all(carries_over: bool) -> Vec<Self> {
        let mut attacks = Vec::new();
        for known in [Known::Planted, Known::Stolen] {
            for defence in DEFENCES {
                attacks.push(Self::new(known, defence, carries_over).await);
            }
        }
        attacks
    }

    /// Returns the record of the victim's session.
    async fn record(&self) -> Record {
        match self.world.stored(&self.new).await {
            Some(Entry::Session(record)) => Record::clone(&record),
            other => panic!("{}: the victim is signed out: {other:?}", self.name),
        }
    }

    /// Asserts that the attacker has neither a value nor an ID, and that only the new ID opens the
    /// session.
    async fn assert_shut_out(&self, change: &str) {
        let name = format!("{change}: {}", self.name);
        assert_eq!(self.held.get(TOKEN), None, "{name}: the held request reads");
        assert!(matches!(self.held.pending_cookie(), CookieChange::Keep), "{name}");
        assert!(!self.world.opens(&self.old).await, "{name}: the old ID opens");
        assert!(self.world.opens(&self.new).await, "{name}: the victim is signed out");
        // A second record, under an ID unknown to every client, would be a leak.
        assert_eq!(self.world.count().await.0, 1, "{name}");
    }
}

/// After another login or rotation, an overtaken request gets no ID of the session.
#[tokio::test]
async fn held_login_or_rotation_is_refused() {
    for carries_over in [true, false] {
        for (name, change) in MOVES {
            for attack in Attack::all(carries_over).await {
                // A double click: the request has proved the same identity as the victim's.
                if attack.known == Known::Planted
                    && attack.defence != Defence::Rotate
                    && name == "authenticate as the victim"
                {
                    continue;
                }
                let before = attack.record().await;
                change(&attack.held, &attack.world).unwrap();
                attack.held.set(NOTE, "evil").unwrap();
                for _ in 0..2 {
                    let committed = attack.held.commit().await;
                    assert!(matches!(committed, Err(SessionError::Ended)), "{}", attack.name);
                }
                assert!(matches!(attack.held.finish().await, Err(SessionError::Ended)));
                assert_eq!(attack.record().await, before, "{name}: {}", attack.name);
                attack.assert_shut_out(name).await;
            }
        }
    }
}

/// Each call after the refusal gets no ID either, also after the request has written values.
#[tokio::test]
async fn held_request_gets_no_id_after_a_refusal() {
    for attack in Attack::all(true).await {
        let held = &attack.held;
        held.rotate().unwrap();
        held.commit().await.unwrap_err();
        held.discard();
        let before = attack.record().await;
        for (name, change) in MOVES.into_iter().chain(CHANGES) {
            held.set(NOTE, name).unwrap();
            held.commit().await.unwrap();
            change(held, &attack.world).unwrap();
            let moves = MOVES.iter().any(|(other, _)| *other == name);
            assert_eq!(held.commit().await.is_err(), moves, "{name}: {}", attack.name);
            held.discard();
            attack.assert_shut_out(name).await;
        }
        assert!(matches!(held.finish().await.unwrap(), CookieChange::Keep));
        let after = attack.record().await;
        assert_eq!(
            (after.owner(), after.lifetime(), after.created_at()),
            (before.owner(), before.lifetime(), before.created_at()),
        );
    }
}

/// An overtaken request carries only values over. A clear removes only the values seen by its
/// request.
#[tokio::test]
async fn held_request_changes_no_lifetime_end_or_id() {
    for (name, change) in CHANGES.into_iter().filter(|(name, _)| *name != "clear") {
        for attack in Attack::all(true).await {
            let before = attack.record().await;
            change(&attack.held, &attack.world).unwrap();
            assert!(matches!(attack.held.finish().await.unwrap(), CookieChange::Keep));
            assert_eq!(attack.record().await, before, "{name}: {}", attack.name);
            attack.assert_shut_out(name).await;
        }
    }
}

/// The same holds beside a value that is carried over.
#[tokio::test]
async fn held_request_changes_values_alone() {
    for (name, change) in CHANGES {
        for attack in Attack::all(true).await {
            let before = attack.record().await;
            change(&attack.held, &attack.world).unwrap();
            attack.held.set(NOTE, "carried").unwrap();
            assert!(matches!(attack.held.finish().await.unwrap(), CookieChange::Keep));
            let after = attack.record().await;
            assert_eq!(after.get(NOTE).as_deref(), Some("carried"), "{name}: {}", attack.name);
            assert_eq!(after.get(TOKEN).as_deref(), Some("secret"), "{name}: {}", attack.name);
            let facts = |record: &Record| {
                let owner = record.owner().cloned();
                (record.lifetime(), record.absolute_deadline(), owner, record.authenticated_at())
            };
            assert_eq!(facts(&after), facts(&before), "{name}: {}", attack.name);
            attack.assert_shut_out(name).await;
        }
    }
}

/// Values are carried over for at most five minutes.
#[tokio::test]
async fn held_set_is_carried_over_for_five_minutes() {
    // The setup has taken one second already.
    for (seconds, counts) in [(298, true), (299, false)] {
        for attack in Attack::all(true).await {
            attack.world.wait(seconds * SECOND);
            attack.held.set(NOTE, "carried").unwrap();
            attack.held.remove(VISITS).unwrap();
            let finished = attack.held.finish().await;
            let record = attack.record().await;
            let names: Vec<_> = record.names().collect();
            if counts {
                assert!(matches!(finished, Ok(CookieChange::Keep)), "{}", attack.name);
                assert_eq!(names, ["note", "token"], "{}", attack.name);
            } else {
                assert!(matches!(finished, Err(SessionError::Ended)), "{}", attack.name);
                assert_eq!(names, ["token", "visits"], "{}", attack.name);
            }
            attack.assert_shut_out("set").await;
        }
    }
}

/// An application can turn the carry-over off.
#[tokio::test]
async fn held_request_changes_nothing_without_carry_over() {
    let set: (&str, Held) = ("set", |held, _| held.set(NOTE, "evil"));
    for (name, change) in CHANGES.into_iter().chain([set]) {
        for attack in Attack::all(false).await {
            let before = attack.record().await;
            change(&attack.held, &attack.world).unwrap();
            let finished = attack.held.finish().await;
            assert!(matches!(finished, Err(SessionError::Ended)), "{name}: {}", attack.name);
            assert_eq!(attack.record().await, before, "{name}: {}", attack.name);
            attack.assert_shut_out(name).await;
        }
    }
}

/// I2: a logout is final, under every ID of the session, and reveals no value or ID.
#[tokio::test]
async fn held_destroy_ends_the_session_after_a_login() {
    for carries_over in [true, false] {
        for attack in Attack::all(carries_over).await {
            attack.held.destroy().unwrap();
            assert!(matches!(attack.held.finish().await.unwrap(), CookieChange::Remove));
            assert!(!attack.world.opens(&attack.new).await, "{}", attack.name);
            assert_eq!(attack.world.sessions.list("victim").await.unwrap().len(), 0);
        }
    }
}

/// After a change of users, a request of the former user never writes into the new user's session.
#[tokio::test]
async fn held_request_changes_no_other_users_session() {
    let world = World::new();
    let old = world.user("ada").await;
    let held = world.open(&old).await;
    let new = world.login(&old, "bob").await;
    held.set(NOTE, "ada's").unwrap();
    assert!(matches!(held.finish().await, Err(SessionError::Ended)));
    let session = world.open(&new).await;
    assert_eq!((session.owner(), session.names()), (Some("bob".into()), Vec::new()));
}

/// A change of the password, like the example in the documentation.
#[tokio::test]
async fn thief_does_not_survive_a_change_of_the_password() {
    let world = World::new();
    let stolen = world.user("victim").await;
    let held = world.open(&stolen).await;

    let victim = world.open(&stolen).await;
    victim.authenticate("victim").unwrap();
    world.sessions.revoke_others(&victim).await.unwrap();
    let new = told(victim.finish().await.unwrap());

    held.authenticate(held.owner().unwrap()).unwrap();
    assert!(matches!(held.finish().await, Err(SessionError::Ended)));
    assert!(matches!(held.pending_cookie(), CookieChange::Keep));
    assert_eq!(world.open(&new).await.owner(), Some("victim".into()));
    let [device] = &world.sessions.list("victim").await.unwrap()[..] else { panic!("one") };
    assert_eq!(device.key(), new.key());
    let late = world.open(&stolen).await;
    assert_eq!((late.key(), late.owner()), (None, None));
}

/// I4: after the login, a slow request with a planted ID reads no value of the session.
#[tokio::test]
async fn overtaken_request_never_sees_the_session_after_a_login() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("victim").unwrap();
    login.set(TOKEN, "secret").unwrap();
    let new = told(login.finish().await.unwrap());

    for round in ["first", "second"] {
        slow.set(NOTE, round).unwrap();
        slow.commit().await.unwrap();
        assert_eq!((slow.owner(), slow.get(TOKEN)), (None, None), "{round}");
        assert_eq!(slow.get(NOTE).as_deref(), Some(round));
        // The value is carried over all the same.
        assert_eq!(world.open(&new).await.get(NOTE).as_deref(), Some(round));
    }
    slow.renew().unwrap();
    slow.update(VISITS, |visits| *visits += 1).unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!((slow.owner(), slow.get(TOKEN)), (None, None));
    assert_eq!(world.open(&new).await.get(VISITS), Some(2));
    assert!(!world.opens(&id).await);
}

/// I2: the deletion does not stop at the old key.
#[tokio::test]
async fn overtaken_request_that_wrote_can_still_destroy() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());
    slow.set(NOTE, "carried over").unwrap();
    slow.commit().await.unwrap();
    slow.destroy().unwrap();
    let _ = slow.finish().await.unwrap();
    assert!(!world.opens(&new).await);
}

/// I2: a logout that failed half way reports success only after the deletion.
#[tokio::test]
async fn repeated_logout_ends_a_moved_session() {
    let world = World::new();
    let id = world.visitor().await;
    let (ending, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());

    ending.destroy().unwrap();
    world.store.fail_nth(2, Verb::Delete, Fault::DOWN);
    assert!(matches!(ending.commit().await, Err(SessionError::Store(_))));
    assert!(world.opens(&new).await);
    assert!(matches!(ending.finish().await.unwrap(), CookieChange::Remove));
    assert!(!world.opens(&new).await, "the logout reported success");
}

/// I2, I11: a version can delete a session that it cannot read.
#[tokio::test]
async fn logout_and_login_end_an_unreadable_session() {
    for login in [false, true] {
        let world = World::new();
        let id = world.user("ada").await;
        world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
        let session = world.open(&id).await;
        assert_eq!(session.key(), None);
        if login {
            session.authenticate("ada").unwrap();
        } else {
            session.destroy().unwrap();
        }
        let change = session.finish().await.unwrap();
        assert_eq!(matches!(change, CookieChange::Remove), !login);
        assert_eq!(world.stored(&id).await, None);
    }
}

/// I1: the later commit wins, even if it writes the value read before.
#[tokio::test]
async fn set_of_the_former_value_wins_over_an_earlier_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let (mine, other) = (world.open(&id).await, world.open(&id).await);
    other.set(VISITS, 9).unwrap();
    other.set(TOKEN, "theirs").unwrap();
    let _ = other.finish().await.unwrap();
    mine.set(VISITS, 1).unwrap();
    mine.remove(TOKEN).unwrap();
    mine.set(NOTE, "mine").unwrap();
    let _ = mine.finish().await.unwrap();
    let session = world.open(&id).await;
    assert_eq!((session.get(VISITS), session.get(TOKEN)), (Some(1), None));

    let (mine, other) = (world.open(&id).await, world.open(&id).await);
    mine.remove(NOTE).unwrap();
    mine.remove(VISITS).unwrap();
    mine.clear().unwrap();
    other.set(TOKEN, "theirs").unwrap();
    let _ = other.finish().await.unwrap();
    let _ = mine.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), Vec::<String>::new());
}

/// I6: if a clone's change does not fit into the newer session, its commit fails.
#[tokio::test]
async fn change_during_a_commit_is_stored_or_reported() {
    let world = World::with(|sessions| {
        sessions.with_limits(session_core::Limits::default().with_values(2))
    });
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let (clone, other) = (session.clone(), world.open(&id).await);
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.before(Verb::Commit, move || async move {
        // The change fits into the session as read by this request, but not into the session after
        // the other request.
        clone.set(NOTE, "late").unwrap();
        other.set(TOKEN, "theirs").unwrap();
        let _ = other.finish().await.unwrap();
    });
    session.commit().await.unwrap();
    assert!(matches!(session.finish().await, Err(SessionError::TooLarge { .. })));
    let stored = world.open(&id).await;
    assert_eq!((stored.get(VISITS), stored.get(NOTE)), (Some(2), None));
}

/// Closures of the application run without the mutex of the session.
#[tokio::test]
async fn replayed_update_can_read_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.set(NOTE, "first").unwrap();
    world.store.before(Verb::Commit, move || async move {
        let reader = clone.clone();
        clone.update(VISITS, move |visits| *visits += reader.names().len() as u64).unwrap();
    });
    session.commit().await.unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(3));
}

/// I4: the response sends the ID of a stored session, whatever fails after the commit.
#[tokio::test]
async fn failed_finish_still_sets_the_cookie_of_an_earlier_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    session.commit().await.unwrap();
    session.set(NOTE, "lost").unwrap();
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    assert!(session.finish().await.is_err());
    world.store.set_outage(None);
    let new = told(session.pending_cookie());
    assert!(world.opens(&new).await);

    // A failure alone keeps the cookie.
    let session = world.open(&new).await;
    session.destroy().unwrap();
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    assert!(session.finish().await.is_err());
    assert!(matches!(session.pending_cookie(), CookieChange::Keep));
}

/// I7: a cookie left untried may open a session.
#[tokio::test]
async fn cookie_behind_many_dead_ones_stays() {
    let world = World::new();
    let id = world.visitor().await;
    let junk = [b"junk".as_slice(); 4];
    let cookies = junk.into_iter().chain([id.expose().as_bytes()]);
    let session = world.sessions.open(cookies).await.unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn discard_during_a_commit_takes_back_a_destroy() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.set(NOTE, "kept").unwrap();
    world.store.before(Verb::Commit, move || async move {
        clone.destroy().unwrap();
        clone.discard();
    });
    session.commit().await.unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("kept"));
}

/// Django CVE-2015-5143: visitors without values must not fill the store.
#[tokio::test]
async fn lifetime_alone_stores_no_session() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);

    let session = world.anonymous().await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    session.set(VISITS, 1).unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::remember_me());
}

/// After a request destroys a superseded session, it may begin a new session.
#[tokio::test]
async fn superseded_cookie_allows_a_new_session_after_destroy() {
    let world = World::new();
    let id = world.visitor().await;
    world.login(&id, "ada").await;
    let late = world.try_change(&id, |session| session.set(NOTE, "refused")).await;
    assert!(matches!(late, Err(SessionError::Ended)));
    let late = world.open(&id).await;
    late.destroy().unwrap();
    late.set(NOTE, "fresh").unwrap();
    let fresh = told(late.finish().await.unwrap());
    assert_eq!(world.open(&fresh).await.names(), ["note"]);
}

/// I9: a commit is bounded.
#[tokio::test]
async fn commit_gives_up_after_five_seconds() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.open(&id).await);
    session.set(NOTE, "late").unwrap();
    other.set(VISITS, 2).unwrap();
    let clock = std::sync::Arc::clone(&world.clock);
    world.store.before(Verb::Commit, move || async move {
        let _ = other.finish().await.unwrap();
        clock.advance(std::time::Duration::from_secs(6));
    });
    assert!(matches!(session.commit().await, Err(SessionError::Contended)));
}

/// A session stored before the limits were lowered stays usable, and can shrink.
#[tokio::test]
async fn session_over_lowered_limits_can_shrink() {
    let world = World::new();
    let id = world.visitor().await;
    world.change(&id, |session| session.set(NOTE, "x".repeat(1_000))).await;
    let strict = session_core::Sessions::builder(std::sync::Arc::clone(&world.store))
        .with_clock(std::sync::Arc::clone(&world.clock))
        .with_limits(session_core::Limits::default().with_session_bytes(100))
        .build()
        .unwrap();
    let session = strict.open([id.expose().as_bytes()]).await.unwrap();
    session.set(NOTE, "x".repeat(900)).unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = session.finish().await.unwrap();
    let session = strict.open([id.expose().as_bytes()]).await.unwrap();
    assert!(matches!(session.set(NOTE, "x".repeat(901)), Err(SessionError::TooLarge { .. })));
}

/// I6: a clone's change during a commit is stored with the later changes, or reported.
#[tokio::test]
async fn change_after_a_refused_one_does_not_drop_it() {
    let world = World::with(|sessions| {
        sessions.with_limits(session_core::Limits::default().with_values(2))
    });
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let (clone, other) = (session.clone(), world.open(&id).await);
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.before(Verb::Commit, move || async move {
        clone.set(NOTE, "late").unwrap();
        other.set(TOKEN, "theirs").unwrap();
        let _ = other.finish().await.unwrap();
    });
    session.commit().await.unwrap();
    // The request still sees its own pending change, and makes room for it.
    assert_eq!(session.get(NOTE).as_deref(), Some("late"));
    session.remove(TOKEN).unwrap();
    let finished = session.finish().await;
    let stored = world.open(&id).await.get(NOTE);
    assert!(finished.is_err() || stored.as_deref() == Some("late"), "{finished:?}, {stored:?}");
}

/// A closure must not change the session. If it does, the server must not hang.
#[tokio::test]
async fn update_that_writes_the_session_ends() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(TOKEN, "same").unwrap();
    session.commit().await.unwrap();
    let clone = session.clone();
    session.set(NOTE, "first").unwrap();
    world.store.before(Verb::Commit, move || async move {
        let writer = clone.clone();
        let change = move |visits: &mut u64| {
            *visits += 1;
            let _ = writer.set(TOKEN, "same");
        };
        clone.update(VISITS, change).unwrap();
    });
    session.commit().await.unwrap();
    // After the response has begun, the closure's own writes are refused, and the update completes.
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}

/// I4, I7: a dead ID would replace the ID of the login.
#[tokio::test]
async fn overtaken_request_sets_no_cookie() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let _ = login.finish().await.unwrap();
    slow.set_lifetime(Lifetime::remember_me()).unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));

    // A request with a former ID would have received the present ID. It sets no cookie either.
    let id = world.visitor().await;
    let renewed = world.renew(&id).await;
    let (slow, login) = (world.open(&id).await, world.open(&renewed).await);
    login.authenticate("ada").unwrap();
    let _ = login.finish().await.unwrap();
    slow.set(NOTE, "carried over").unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));
}

/// I7: a new session would replace the session of the login, in any order of the browser's cookies.
#[tokio::test]
async fn superseded_cookie_counts_more_than_an_unreadable_one() {
    let world = World::new();
    let (id, unreadable) = (world.visitor().await, world.visitor().await);
    world.login(&id, "ada").await;
    for (nth, cookies) in [[&unreadable, &id], [&id, &unreadable]].into_iter().enumerate() {
        world.store.fail_nth(nth + 1, Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
        let cookies = cookies.map(|id| id.expose().as_bytes());
        let session = world.sessions.open(cookies).await.unwrap();
        session.set(NOTE, "late").unwrap();
        assert!(matches!(session.finish().await, Err(SessionError::Ended)), "{nth}");
        assert!(matches!(session.pending_cookie(), CookieChange::Keep), "{nth}");
    }
}

#[tokio::test]
async fn discarded_destroy_during_a_login_keeps_the_login() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.authenticate("ada").unwrap();
    world.store.before(Verb::Commit, move || async move { clone.destroy().unwrap() });
    session.commit().await.unwrap();
    session.discard();
    let new = told(session.finish().await.unwrap());
    assert!(world.open(&new).await.owner().is_some());
}

#[tokio::test]
async fn request_does_not_finish_while_a_clone_commits() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.authenticate("ada").unwrap();
    world.store.before(Verb::Commit, move || async move {
        clone.discard();
        assert!(clone.try_finish().is_none());
    });
    session.commit().await.unwrap();
    assert!(world.opens(&told(session.finish().await.unwrap())).await);
}
