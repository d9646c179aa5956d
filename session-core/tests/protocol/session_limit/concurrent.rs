//! I8: concurrent logins do not exceed the limit of their owner, in any order of commands.

use std::{cell::Cell, sync::Arc};

use session_core::{
    AtLimit, Clock as _, SessionError, SessionId, SessionLimit, Sessions, SystemClock, Timestamp,
};

use crate::{
    owners::site::{Answer, Deed, Site, Skew, told_id},
    support::{Look as _, Steps, interleavings, steps, told},
};

/// Signs users in before the concurrent logins.
fn earlier_users(site: &Site, count: usize) -> Vec<SessionId> {
    let now = site.now();
    site.clock.set(Timestamp::from_millis(now.as_millis() - 60_000));
    let ids = (0..count).map(|_| site.user()).collect();
    site.clock.set(now);
    ids
}

const SKEWS: [Skew; 3] = [Skew::Behind, Skew::None, Skew::Ahead];

const POLICIES: [AtLimit; 3] = [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent];

/// Returns the number of received IDs that open a session.
fn open_ids(site: &Site, answers: &[Answer]) -> usize {
    answers.iter().filter_map(told_id).filter(|id| site.opens(id)).count()
}

#[test]
fn two_logins_do_not_exceed_the_limit_in_any_order() {
    let both_refused = Cell::new(0);
    for at_limit in POLICIES {
        for (max, before) in [(1, 0), (1, 1), (2, 1), (2, 2)] {
            for skew in SKEWS {
                let make = || {
                    let [site, other] = Site::limited(max, at_limit, skew);
                    let ids = earlier_users(&site, before);
                    let requests =
                        [site.request(None, Deed::Login), other.request(None, Deed::Login)];
                    ((site, ids), requests)
                };
                interleavings(8, make, |(site, ids), answers, order| {
                    let context =
                        format!("{at_limit:?} {skew:?} {max} {before} {order:?}: {answers:?}");
                    let open = open_ids(&site, &answers);
                    let former = ids.iter().filter(|id| site.opens(id)).count();
                    assert!(open + former <= max, "{context}");
                    assert_eq!(site.owned(), open + former, "nothing else is left: {context}");
                    assert_eq!(site.entered(), open + former, "{context}");
                    let told = answers.iter().filter_map(told_id).count();
                    if at_limit == AtLimit::Reject {
                        assert_eq!((former, told), (before, open), "nobody is ended: {context}");
                        both_refused
                            .set(both_refused.get() + usize::from(told == 0 && before < max));
                    } else {
                        assert_eq!(open + former, max, "no place is lost: {context}");
                        assert!(open >= 1, "they end each other: {context}");
                    }
                    for answer in &answers {
                        let is_refused = match answer {
                            Answer::Told(Err(SessionError::TooManySessions { .. })) => {
                                at_limit == AtLimit::Reject
                            }
                            Answer::Told(Err(SessionError::Contended)) => {
                                at_limit != AtLimit::Reject
                            }
                            answer => told_id(answer).is_some(),
                        };
                        assert!(is_refused, "{context}");
                    }
                });
            }
        }
    }
    assert!(both_refused.get() > 0, "no order lets two logins see each other");
}

/// A session in the middle of a move takes one place, under either key.
#[test]
fn login_counts_a_moving_session_in_every_order() {
    for at_limit in POLICIES {
        for deed in [Deed::Renew, Deed::Rotate, Deed::Write] {
            let make = || {
                let [site, other] = Site::limited(1, at_limit, Skew::None);
                let id = earlier_users(&site, 1).remove(0);
                let requests = [site.request(Some(&id), deed), other.request(None, Deed::Login)];
                ((site, id), requests)
            };
            interleavings(11, make, |(site, id), answers, order| {
                let context = format!("{at_limit:?} {deed:?} {order:?}: {answers:?}");
                assert_eq!(site.owned(), 1, "{context}");
                let moved = told_id(&answers[0]).is_some_and(|id| site.opens(id));
                let former = moved || site.opens(&id);
                if at_limit == AtLimit::Reject {
                    let is_refused = matches!(
                        answers[1],
                        Answer::Told(Err(SessionError::TooManySessions { limit: 1, .. }))
                    );
                    assert!(is_refused, "{context}");
                    assert!(former, "{context}");
                } else {
                    let is_in = told_id(&answers[1]).is_some_and(|id| site.opens(id));
                    assert!(is_in && !former, "{context}");
                }
            });
        }
    }
}

/// With room for both, a login beside a move is never refused.
#[test]
fn login_finds_room_beside_a_move_in_every_order() {
    for at_limit in POLICIES {
        for deed in [Deed::Login, Deed::Renew, Deed::Rotate] {
            let make = || {
                let [site, other] = Site::limited(2, at_limit, Skew::None);
                let id = earlier_users(&site, 1).remove(0);
                let requests = [site.request(Some(&id), deed), other.request(None, Deed::Login)];
                (site, requests)
            };
            interleavings(11, make, |site, answers, order| {
                let context = format!("{at_limit:?} {deed:?} {order:?}: {answers:?}");
                assert_eq!(open_ids(&site, &answers), 2, "{context}");
                assert_eq!((site.owned(), site.listed()), (2, 2), "{context}");
            });
        }
    }
}

/// Runs a second login of the owner's only session beside a login elsewhere, in every order. The
/// check receives the number of sessions whose IDs the clients have.
fn login_and_login_again(check: impl Fn(&[Answer; 2], usize, &str)) {
    for at_limit in POLICIES {
        for skew in SKEWS {
            let make = || {
                let [site, other] = Site::limited(1, at_limit, skew);
                let id = earlier_users(&site, 1).remove(0);
                let requests =
                    [site.request(Some(&id), Deed::Login), other.request(None, Deed::Login)];
                ((site, id), requests)
            };
            interleavings(10, make, |(site, id), answers, order| {
                let context = format!("{at_limit:?} {skew:?} {order:?}: {answers:?}");
                let open = open_ids(&site, &answers) + usize::from(site.opens(&id));
                assert_eq!(site.owned(), open, "nothing else is left: {context}");
                check(&answers, open, &context);
            });
        }
    }
}

#[test]
fn login_again_and_another_login_do_not_exceed_the_limit() {
    login_and_login_again(|answers, open, context| {
        assert!(open <= 1, "{context}");
        let is_acknowledged = answers.iter().any(|answer| told_id(answer).is_some());
        let is_ended = matches!(answers[0], Answer::Told(Err(SessionError::Ended)));
        assert!(open == 1 || is_acknowledged && is_ended, "{context}");
    });
}

#[test]
fn login_again_and_another_login_do_not_end_each_other() {
    login_and_login_again(|_, open, context| assert_eq!(open, 1, "{context}"));
}

/// Runs logins in three processes, on a store that lets other requests in before each command.
async fn fifty_concurrent_logins(
    at_limit: AtLimit,
) -> (Arc<Steps>, Vec<Result<SessionId, SessionError>>) {
    let store = Arc::new(steps());
    let limit = SessionLimit::new(3, at_limit).unwrap();
    let process =
        || Sessions::builder(Arc::clone(&store)).with_session_limit(limit).build().unwrap();
    let processes = [process(), process(), process()];
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let sessions = processes[number % 3].clone();
            tokio::spawn(async move {
                let session = sessions.open([]).await?;
                session.authenticate("ada")?;
                session.finish().await.map(told)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    (store, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_concurrent_logins_leave_no_more_than_three() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for _ in 0..2 {
            let (store, answers) = fifty_concurrent_logins(at_limit).await;
            let now = SystemClock.now();
            let mut live: Vec<_> = store.live(now).into_iter().map(|(key, _)| key).collect();
            let mut entered = store.entered("ada", now);
            live.sort_unstable();
            entered.sort_unstable();
            assert_eq!(live, entered);
            let mut accepted = Vec::new();
            for answer in answers {
                match answer {
                    Ok(id) => accepted.push(id.key()),
                    Err(SessionError::TooManySessions { limit: 3, .. })
                        if at_limit == AtLimit::Reject => {}
                    Err(SessionError::Contended) if at_limit != AtLimit::Reject => {}
                    Err(error) => panic!("{at_limit:?}: {error}"),
                }
            }
            assert!(live.iter().all(|key| accepted.contains(key)), "a session that nobody knows");
            if at_limit == AtLimit::Reject {
                // Logins that find each other are refused together.
                assert!(accepted.len() <= 3, "{}", accepted.len());
                assert_eq!(live.len(), accepted.len());
            } else {
                assert_eq!(live.len(), 3, "{at_limit:?}");
            }
        }
    }
}
