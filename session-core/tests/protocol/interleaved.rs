//! I1, I2, I4: two requests on one session, in every order of their commands.

use std::pin::Pin;

use session_core::{CookieChange, Key, Session, SessionError, SessionId, Sessions};

use crate::support::{NOTE, VISITS, interleavings, run, steps, told};

type Answer = Result<CookieChange, SessionError>;

type Request = Pin<Box<dyn Future<Output = Answer>>>;

/// The operation of one request on its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    Write,
    Login(&'static str),
    Rotate,
    Renew,
    Destroy,
}

/// The end of a race.
struct End {
    sessions: Sessions,
    former: SessionId,
}

impl End {
    fn open(&self, id: &SessionId) -> Session {
        run(self.sessions.open([id.expose().as_bytes()])).unwrap()
    }

    /// Returns the live session. An ID in the answers opens it, or the former ID.
    fn session(&self, answers: &[Answer]) -> Option<Session> {
        let mut live: Vec<_> = answers
            .iter()
            .filter_map(received)
            .chain([&self.former])
            .map(|id| self.open(id))
            .filter(|session| session.key().is_some())
            .collect();
        live.dedup_by_key(|session| session.key());
        assert!(live.len() <= 1, "one session became two: {live:?}");
        live.pop()
    }

    /// Returns the number of sessions in an owner's list.
    fn listed(&self, owner: &str) -> usize {
        run(self.sessions.list(owner)).unwrap().len()
    }
}

/// Returns the ID set by a response.
fn received(answer: &Answer) -> Option<&SessionId> {
    match answer {
        Ok(CookieChange::Set { id, .. }) => Some(id),
        _ => None,
    }
}

/// Runs one request, which adds one visit and records its number.
async fn request(sessions: Sessions, id: SessionId, act: Act, number: usize) -> Answer {
    let session = sessions.open([id.expose().as_bytes()]).await?;
    let was_there = session.key().is_some();
    match act {
        _ if !was_there => return session.finish().await,
        Act::Destroy => session.destroy()?,
        Act::Write => {}
        Act::Login(owner) => session.authenticate(owner)?,
        Act::Rotate => session.rotate()?,
        Act::Renew => session.renew()?,
    }
    if act != Act::Destroy {
        session.update(VISITS, |visits| *visits += 1)?;
        session.set(Key::<bool>::new(&format!("request {number}")), true)?;
    }
    session.finish().await
}

/// Runs two operations on one session, a visitor's or a user's, in every order.
fn race_on(owner: Option<&str>, acts: [Act; 2], check: impl Fn(&End, &[Answer; 2])) {
    let make = || {
        let sessions = Sessions::new(steps());
        let former = run(async {
            let session = sessions.open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            if let Some(owner) = owner {
                session.authenticate(owner).unwrap();
            }
            told(session.finish().await.unwrap())
        });
        let requests = [0, 1].map(|number| -> Request {
            Box::pin(request(sessions.clone(), former.clone(), acts[number], number))
        });
        (End { sessions, former }, requests)
    };
    interleavings(9, make, |end, answers, order| {
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&end, &answers)));
        if let Err(panic) = result {
            eprintln!("{acts:?} in the order {order:?} answered {answers:?}");
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs two operations on a visitor's session, in every order.
fn race(acts: [Act; 2], check: impl Fn(&End, &[Answer; 2])) {
    race_on(None, acts, check);
}

/// Asserts that each request changed the session once, if it found the session and succeeded.
fn each_counted(end: &End, answers: &[Answer; 2]) {
    let session = end.session(answers).expect("the session is there");
    let mut names = session.names();
    names.retain(|name| name.starts_with("request"));
    let visits = session.get(VISITS);
    assert_eq!(visits, Some(names.len() as u64), "each counted once");
    for (number, answer) in answers.iter().enumerate() {
        let counted = names.contains(&format!("request {number}"));
        match answer {
            // The request opened the former ID after its end, and so found an empty session.
            Ok(CookieChange::Keep) if !counted => assert_eq!(names.len(), 1),
            Ok(_) => assert!(counted, "request {number} was acknowledged and is lost"),
            Err(SessionError::Ended) => assert!(!counted, "request {number} was refused"),
            Err(error) => panic!("request {number}: {error}"),
        }
    }
}

/// Asserts the same, and that both requests succeeded.
fn both_counted(end: &End, answers: &[Answer; 2]) {
    each_counted(end, answers);
    assert!(answers.iter().all(Result::is_ok));
}

#[test]
fn two_writes_both_count() {
    race([Act::Write, Act::Write], |end, answers| {
        both_counted(end, answers);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(CookieChange::Keep))));
        assert_eq!(end.open(&end.former).get(VISITS), Some(2));
    });
}

#[test]
fn write_and_login_both_count() {
    race([Act::Write, Act::Login("ada")], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).key(), None, "the former ID is closed");
        assert!(matches!(answers[0], Ok(CookieChange::Keep)), "the writer receives no ID");
        assert_eq!(end.session(answers).unwrap().owner(), Some("ada".into()));
        assert_eq!(end.listed("ada"), 1);
    });
}

#[test]
fn write_and_rotation_both_count() {
    for owner in [None, Some("ada")] {
        race_on(owner, [Act::Write, Act::Rotate], |end, answers| {
            both_counted(end, answers);
            assert_eq!(end.open(&end.former).key(), None, "the former ID is closed");
            assert!(matches!(answers[0], Ok(CookieChange::Keep)), "the writer receives no ID");
            assert_eq!(end.session(answers).unwrap().owner(), owner.map(Into::into));
        });
    }
}

#[test]
fn write_and_renewal_both_count() {
    race([Act::Write, Act::Renew], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).get(VISITS), Some(2), "the former ID opens");
    });
}

/// Each request has proved another identity, so only one may be signed in.
#[test]
fn two_logins_of_two_users_make_one_session() {
    race([Act::Login("ada"), Act::Login("bob")], |end, answers| {
        each_counted(end, answers);
        assert_eq!(end.open(&end.former).key(), None, "the former ID is closed");
        let winners: Vec<_> = answers.iter().filter_map(received).collect();
        assert_eq!(winners.len(), 1, "one of them is signed in");
        assert_eq!(end.listed("ada") + end.listed("bob"), 1);
    });
}

#[test]
fn two_rotations_make_one_session() {
    for owner in [None, Some("ada")] {
        race_on(owner, [Act::Rotate, Act::Rotate], |end, answers| {
            each_counted(end, answers);
            assert_eq!(end.open(&end.former).key(), None, "the former ID is closed");
            assert_eq!(answers.iter().filter_map(received).count(), 1, "one receives the ID");
        });
    }
}

#[test]
fn two_renewals_make_one_session() {
    race([Act::Renew, Act::Renew], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).get(VISITS), Some(2), "the former ID opens");
    });
}

#[test]
fn login_and_renewal_make_one_session() {
    race([Act::Login("ada"), Act::Renew], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).key(), None, "the former ID is closed");
        assert_eq!(end.session(answers).unwrap().owner(), Some("ada".into()));
        assert_eq!(end.listed("ada"), 1);
    });
}

/// The cookie was stolen, and the user signs in again. If the login succeeds, every ID received
/// by the thief is dead, in any order of the requests' commands.
#[test]
fn login_shuts_out_every_concurrent_request() {
    let acts = [Act::Write, Act::Login("ada"), Act::Rotate, Act::Renew, Act::Destroy];
    for thief in acts {
        race_on(Some("ada"), [Act::Login("ada"), thief], |end, answers| {
            each_refusal_is_ended(answers);
            assert_eq!(end.open(&end.former).key(), None, "the former ID is closed");
            let Some(mine) = received(&answers[0]) else { return };
            if let Some(stolen) = received(&answers[1]) {
                assert_eq!(end.open(stolen).key(), None, "the thief is signed in");
            }
            let destroyed = matches!(answers[1], Ok(CookieChange::Remove));
            assert_eq!(end.open(mine).key().is_none(), destroyed);
        });
    }
}

fn each_refusal_is_ended(answers: &[Answer; 2]) {
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(matches!(error, SessionError::Ended), "{error}");
    }
}

#[test]
fn destroy_is_final_beside_any_request() {
    let others = [Act::Write, Act::Login("ada"), Act::Rotate, Act::Renew, Act::Destroy];
    for other in others {
        race([Act::Destroy, other], |end, answers| {
            match &answers[0] {
                Ok(CookieChange::Remove) => {
                    assert!(end.session(answers).is_none(), "it lives on");
                }
                // The other request had closed the former ID, or destroyed the session itself.
                Ok(CookieChange::Keep) => {
                    assert!(matches!(other, Act::Login(_) | Act::Rotate | Act::Destroy));
                }
                answer => panic!("{answer:?}"),
            }
            if other == Act::Destroy {
                assert!(end.session(answers).is_none(), "it lives on");
                let removals = answers.iter().filter(|a| matches!(a, Ok(CookieChange::Remove)));
                assert_eq!(removals.count(), 1, "one of them ended it");
            }
            each_refusal_is_ended(answers);
        });
    }
}

/// All values of a destroyed session are deleted.
#[test]
fn write_beside_destroy_is_ended() {
    race([Act::Write, Act::Destroy], |end, answers| {
        assert!(end.session(answers).is_none());
        assert_eq!(end.open(&end.former).get(NOTE), None);
        assert_eq!(end.open(&end.former).names(), Vec::<String>::new());
    });
}
