//! I4: a planted or stolen ID opens nothing of the session after a login or rotation.

use session_core::{CookieChange, Entry, Lifetime, Record, Session, SessionError, SessionId};

use crate::support::{NOTE, SECOND, TOKEN, VISITS, World, told};

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
