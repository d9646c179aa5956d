//! I1, I2 and I4 in every order in which the commands of two requests can reach the store.

use std::{pin::Pin, sync::Arc};

use session_core::{CookieChange, Session, SessionError, SessionId, Sessions};

use crate::support::{NOTE, Steps, VISITS, interleavings, run, told};

type Answer = Result<CookieChange, SessionError>;
type Request = Pin<Box<dyn Future<Output = Answer>>>;

/// What one request does to the session that it loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Deed {
    Write,
    Login,
    Renew,
    Destroy,
}

/// The end of a race.
struct End {
    sessions: Arc<Sessions>,
    former: SessionId,
}

impl End {
    fn open(&self, id: &SessionId) -> Session {
        run(self.sessions.open([id.expose().as_bytes()])).unwrap()
    }

    /// The live session that any of the IDs opens.
    fn session(&self, answers: &[Answer]) -> Option<Session> {
        let told = answers.iter().flatten().filter_map(|change| match change {
            CookieChange::Set { id, .. } => Some(id),
            _ => None,
        });
        let mut live: Vec<_> = told
            .chain([&self.former])
            .map(|id| self.open(id))
            .filter(|s| s.key().is_some())
            .collect();
        live.dedup_by_key(|session| session.key());
        assert!(live.len() <= 1, "one session became two: {live:?}");
        live.pop()
    }
}

/// Plays all orders of two deeds on one session, each of which adds one visit and notes its name.
fn race(deeds: [Deed; 2], check: impl Fn(&End, &[Answer; 2])) {
    let make = || {
        let sessions = Arc::new(Sessions::new(Steps::default()));
        let former = run(async {
            let session = sessions.open([]).await.unwrap();
            session.set(VISITS, &0).unwrap();
            told(session.finish().await.unwrap())
        });
        let requests = [0, 1].map(|number| {
            let (sessions, id, deed) = (Arc::clone(&sessions), former.clone(), deeds[number]);
            let request: Request = Box::pin(async move {
                let session = sessions.open([id.expose().as_bytes()]).await?;
                let was_there = session.key().is_some();
                match deed {
                    _ if !was_there => return session.finish().await,
                    Deed::Destroy => session.destroy()?,
                    Deed::Write => {}
                    Deed::Login => session.authenticate("ada")?,
                    Deed::Renew => session.renew()?,
                }
                if deed != Deed::Destroy {
                    session.update(VISITS, |visits| *visits += 1)?;
                    let name = format!("request {number}");
                    session.set(session_core::Key::<bool>::new(&name), &true)?;
                }
                session.finish().await
            });
            request
        });
        (End { sessions, former }, requests)
    };
    interleavings(9, make, |end, answers, order| {
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&end, &answers)));
        if let Err(panic) = result {
            eprintln!("{deeds:?} in the order {order:?} answered {answers:?}");
            std::panic::resume_unwind(panic);
        }
    });
}

/// How many of the requests changed the session: all that were answered with success and had found it.
fn both_counted(end: &End, answers: &[Answer; 2]) {
    let session = end.session(answers).expect("the session is there");
    let mut names = session.names();
    names.retain(|name| name.starts_with("request"));
    let visits = session.get(VISITS);
    assert_eq!(visits, Some(names.len() as u64), "each counted once");
    for (number, answer) in answers.iter().enumerate() {
        let counted = names.contains(&format!("request {number}"));
        match answer {
            // A request that came when the former ID had been closed found no session.
            Ok(CookieChange::Keep) if !counted => assert_eq!(names.len(), 1),
            Ok(_) => assert!(counted, "request {number} was acknowledged and is lost"),
            Err(error) => panic!("request {number}: {error}"),
        }
    }
}

#[test]
fn two_writers_both_count() {
    race([Deed::Write, Deed::Write], |end, answers| {
        both_counted(end, answers);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(CookieChange::Keep))));
        assert_eq!(end.open(&end.former).get(VISITS), Some(2));
    });
}

#[test]
fn a_writer_and_a_login_both_count_and_the_former_id_is_closed() {
    race([Deed::Write, Deed::Login], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).key(), None);
        assert!(matches!(answers[0], Ok(CookieChange::Keep)), "the writer is told nothing");
        assert_eq!(end.session(answers).unwrap().owner(), Some("ada".into()));
    });
}

#[test]
fn a_writer_and_a_renewal_both_count_and_the_former_id_still_opens() {
    race([Deed::Write, Deed::Renew], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).get(VISITS), Some(2));
    });
}

#[test]
fn two_logins_leave_one_session() {
    race([Deed::Login, Deed::Login], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).key(), None);
    });
}

#[test]
fn two_renewals_leave_one_session_that_the_former_id_opens() {
    race([Deed::Renew, Deed::Renew], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).get(VISITS), Some(2));
    });
}

#[test]
fn a_login_and_a_renewal_leave_one_session_and_the_former_id_is_closed() {
    race([Deed::Login, Deed::Renew], |end, answers| {
        both_counted(end, answers);
        assert_eq!(end.open(&end.former).key(), None);
        assert_eq!(end.session(answers).unwrap().owner(), Some("ada".into()));
    });
}

#[test]
fn a_destroy_is_final_whatever_else_is_under_way() {
    for other in [Deed::Write, Deed::Login, Deed::Renew, Deed::Destroy] {
        race([Deed::Destroy, other], |end, answers| {
            match &answers[0] {
                Ok(CookieChange::Remove) => {
                    assert!(end.session(answers).is_none(), "it lives on");
                }
                // It came when the login had closed the former ID.
                Ok(CookieChange::Keep) => assert_eq!(other, Deed::Login),
                answer => panic!("{answer:?}"),
            }
            if let Err(error) = &answers[1] {
                assert!(matches!(error, SessionError::Ended), "{error}");
            }
        });
    }
}

/// What a request acknowledges to have written is there, or the session has ended.
#[test]
fn a_note_is_there_or_the_session_has_ended() {
    race([Deed::Write, Deed::Destroy], |end, answers| {
        assert!(end.session(answers).is_none());
        assert_eq!(end.open(&end.former).get(NOTE), None);
    });
}
