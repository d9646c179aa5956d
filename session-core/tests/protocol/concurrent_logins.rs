//! I4, I8: concurrent logins on one session leave one session, in every order of commands.

use session_core::{AtLimit, CookieChange, Session, SessionError};

use crate::{
    owners::site::{Answer, Deed, Site, Skew, told_id},
    support::{NOTE, VISITS, interleavings, sign_in},
};

/// No limit, and a limit of one session.
const LIMITS: [Option<AtLimit>; 4] =
    [None, Some(AtLimit::Reject), Some(AtLimit::EvictOldest), Some(AtLimit::EvictLeastRecent)];

fn sites(limit: Option<AtLimit>) -> [Site; 2] {
    match limit {
        Some(at_limit) => Site::limited(1, at_limit, Skew::None),
        None => Site::pair(None, Skew::None),
    }
}

/// A double click on "sign in": both requests carry the visitor's cookie, and the browser keeps the
/// last answer, in any order.
#[test]
fn double_click_on_sign_in_leaves_one_session_in_every_order() {
    fn first(session: &Session) -> Result<(), SessionError> {
        session.set(VISITS, 1)?;
        sign_in(session)
    }
    fn second(session: &Session) -> Result<(), SessionError> {
        sign_in(session)?;
        session.set(NOTE, "second")
    }
    for limit in LIMITS {
        for two_processes in [true, false] {
            let make = || {
                let [site, other] = sites(limit);
                let id = site.visitor();
                let other = if two_processes { &other } else { &site };
                let clicks = [site.click(Some(&id), first), other.click(Some(&id), second)];
                ((site, id), clicks)
            };
            interleavings(11, make, |(site, former), answers, order| {
                let order = format!("{order:?} {limit:?}: {answers:?}");
                for answer in &answers {
                    let Some(id) = told_id(answer) else { panic!("{order}") };
                    let session = site.open(id);
                    assert_eq!(session.owner(), Some("ada".into()), "{order}");
                    assert_eq!(session.names(), ["note", "visits"], "{order}");
                    assert_eq!(session.get(VISITS), Some(1), "{order}");
                }
                assert!(!site.opens(&former), "{order}");
                assert_eq!((site.owned(), site.entered(), site.listed()), (1, 1, 1), "{order}");
            });
        }
    }
}

/// On a user's session, only one of two concurrent logins counts, and the other receives no ID.
#[test]
fn two_logins_on_a_users_session_keep_one_in_every_order() {
    for limit in LIMITS {
        let make = || {
            let [site, other] = sites(limit);
            let id = site.user();
            let requests =
                [site.request(Some(&id), Deed::Login), other.request(Some(&id), Deed::Login)];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            assert_eq!((site.owned(), site.entered()), (1, 1), "{order:?}: {answers:?}");
            let told = answers.iter().filter(|answer| match answer {
                Answer::Told(Ok(CookieChange::Set { id, .. })) => site.opens(id),
                Answer::Told(Ok(_) | Err(SessionError::Ended)) => false,
                error => panic!("{order:?}: {error:?}"),
            });
            assert_eq!(told.count(), 1, "{order:?}: {answers:?}");
        });
    }
}
