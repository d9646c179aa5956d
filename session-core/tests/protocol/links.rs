//! I8: a session is found by its links, as it is found by its owner.

use session_core::{AtLimit, CookieChange, Lifetime, Limits, Session, SessionError, SessionKey};

use crate::{
    owners::site::{Answer, Deed, Site, told_id},
    support::{
        Fault, HOUR, Look as _, MINUTE, VISITS, Verb, World, all_bytes_of, finish, interleavings,
        keys, kinds, run,
    },
};

#[tokio::test]
async fn revoke_linked_ends_the_linked_sessions_of_all_owners() {
    let world = World::new();
    let linked = [world.linked_user("ada").await, world.linked_user("grace").await];
    let link = |name, value| {
        world.begin(move |session| {
            session.authenticate("ada")?;
            session.link(name, value)
        })
    };
    let others = [link("sid", "2").await, link("si", "d1").await, world.user("ada").await];
    let elsewhere = world.other_process();
    assert_eq!(elsewhere.sessions.revoke_linked("sid", "1").await.unwrap(), 2);
    for id in &linked {
        assert!(!world.opens(id).await);
    }
    for id in &others {
        assert!(world.opens(id).await);
    }
    assert_eq!(elsewhere.sessions.revoke_linked("sid", "1").await.unwrap(), 0);
    assert_eq!(elsewhere.sessions.revoke_linked("sid", b"2").await.unwrap(), 1);
}

#[tokio::test]
async fn request_under_way_stores_nothing_after_revoke_linked() {
    let world = World::new();
    let id = world.linked_user("ada").await;
    let under_way = world.open(&id).await;
    under_way.set(VISITS, 2).unwrap();
    assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 1);
    assert!(matches!(under_way.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn list_linked_shows_owner_and_values() {
    let world = World::new();
    let ada = world.linked_user("ada").await;
    world.wait(MINUTE);
    let grace = world.linked_user("grace").await;
    let list = world.sessions.list_linked("sid", "1").await.unwrap();
    let shown: Vec<_> = list
        .iter()
        .map(|info| (info.key(), info.owner().and_then(|owner| owner.as_str()), info.get(VISITS)))
        .collect();
    assert_eq!(shown, [(grace.key(), Some("grace"), Some(1)), (ada.key(), Some("ada"), Some(1))]);
}

#[tokio::test]
async fn link_stays_through_rotations_and_renewals() {
    let world = World::new();
    let mut id = world.linked_user("ada").await;
    type Move = fn(&Session) -> Result<(), SessionError>;
    let moves: [Move; 3] =
        [Session::rotate, Session::renew, |session| session.reauthenticate("ada")];
    for record in moves {
        id = world.moved(&id, record).await;
        assert_eq!(world.linked().await, keys(&[&id]));
    }
    assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 1);
    assert_eq!(world.count_entered().await, 0);
}

#[tokio::test]
async fn link_goes_with_the_next_login_and_the_logout() {
    let world = World::new();
    for owner in ["ada", "grace"] {
        let id = world.linked_user("ada").await;
        let id = world.login(&id, owner).await;
        assert_eq!(world.linked().await, [], "{owner}");
        assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 0);
        assert!(world.opens(&id).await);
    }
    let id = world.linked_user("ada").await;
    world.log_out(&id).await;
    assert_eq!(world.linked().await, []);
    assert_eq!(world.count_entered().await, 2, "the sessions of the two logins");
}

/// A link that comes before its login in a request would be lost without a sign.
#[tokio::test]
async fn link_of_the_same_request_belongs_to_the_login() {
    for before in ["nothing", "a visitor", "a user"] {
        let world = World::new();
        let session = match before {
            "nothing" => world.anonymous().await,
            "a visitor" => world.open(&world.visitor().await).await,
            _ => world.open(&world.linked_user("ada").await).await,
        };
        session.link("sid", "1").unwrap();
        session.authenticate("grace").unwrap();
        let id = finish(session).await;
        assert_eq!(world.linked().await, keys(&[&id]));
        assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn link_without_a_login_gives_the_session_a_fresh_id() {
    let world = World::new();
    for former in [world.user("ada").await, world.visitor().await] {
        let id = world.moved(&former, |session| session.link("sid", "1")).await;
        assert!(!world.opens(&former).await);
        assert_eq!(world.open(&id).await.get(VISITS), Some(1));
        assert_eq!(world.linked().await, keys(&[&id]));
        // The session has the link already.
        let session = world.open(&id).await;
        session.link("sid", "1").unwrap();
        world.store.calls();
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
        assert_eq!(world.store.calls(), []);
        assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 1);
    }
}

/// Otherwise the link would be lost without a sign.
#[tokio::test]
async fn link_to_a_session_that_moved_meanwhile_is_an_error() {
    let world = World::new();
    let id = world.user("ada").await;
    let late = world.open(&id).await;
    late.link("sid", "1").unwrap();
    world.login(&id, "ada").await;
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.linked().await, []);
}

/// A joined session keeps its key, and so its links.
#[tokio::test]
async fn double_click_joins_only_a_login_with_the_same_links() {
    for (value, joins) in [("1", true), ("2", false)] {
        let world = World::new();
        let visitor = world.visitor().await;
        let clicks = [world.open(&visitor).await, world.open(&visitor).await];
        for (click, value) in clicks.iter().zip(["1", value]) {
            click.authenticate("ada").unwrap();
            click.link("sid", value).unwrap();
        }
        let [first, second] = clicks;
        let id = finish(first).await;
        let answer = second.finish().await;
        assert_eq!(answer.is_ok(), joins, "{answer:?}");
        assert_eq!(world.linked().await, keys(&[&id]));
        assert_eq!(world.sessions.list_linked("sid", "2").await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn links_are_bounded() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    for number in 0..Limits::LINKS {
        session.link("n", number.to_string()).unwrap();
    }
    session.link("n", "0").unwrap();
    let text = |result: Result<(), SessionError>| result.unwrap_err().to_string();
    let long = vec![0; Limits::LINK_BYTES + 1];
    insta::assert_snapshot!(text(session.link("n", "more")), @"the number of links exceeds the limit of 4");
    insta::assert_snapshot!(text(session.link("", "1")), @"the name and the value of a link must not be empty");
    insta::assert_snapshot!(text(session.link("n", "")), @"the name and the value of a link must not be empty");
    insta::assert_snapshot!(text(session.link("n", &long)), @"the value of a link exceeds the limit of 1024");
    let id = finish(session).await;
    let session = world.open(&id).await;
    insta::assert_snapshot!(text(session.link("n", "more")), @"the number of links exceeds the limit of 4");
    for number in 0..Limits::LINKS {
        assert_eq!(world.sessions.list_linked("n", number.to_string()).await.unwrap().len(), 1);
    }
    world.store.calls();
    assert!(matches!(world.sessions.list_linked("n", "").await, Err(SessionError::EmptyLink)));
    assert!(matches!(world.sessions.revoke_linked("", "1").await, Err(SessionError::EmptyLink)));
    assert_eq!(world.store.calls(), []);
    assert_eq!(world.sessions.revoke_linked("n", "3").await.unwrap(), 1);
    assert_eq!(world.count_entered().await, 0, "the session leaves all indexes");
}

/// Each link that the session has already belongs to a later login of the request too.
#[tokio::test]
async fn links_of_a_request_are_bounded() {
    let world = World::new();
    let link = |session: &Session, name| {
        for number in 0..Limits::LINKS {
            session.link(name, number.to_string())?;
        }
        Ok::<_, SessionError>(())
    };
    let id = world
        .begin(|session| {
            session.authenticate("ada")?;
            link(session, "login")
        })
        .await;
    let id = world
        .moved(&id, |session| {
            session.act_as("grace", HOUR)?;
            link(session, "acting")
        })
        .await;
    let session = world.open(&id).await;
    link(&session, "acting").unwrap();
    session.stop_acting().unwrap();
    let refused = session.link("login", "0").unwrap_err().to_string();
    insta::assert_snapshot!(refused, @"the number of links exceeds the limit of 4");
    session.authenticate("ada").unwrap();
    let id = finish(session).await;
    assert_eq!(world.sessions.list_linked("acting", "3").await.unwrap().len(), 1);
    assert_eq!(world.sessions.list_linked("login", "0").await.unwrap().len(), 0);
    world.log_out(&id).await;
    assert_eq!(world.count_entered().await, 0);
}

/// The entries of a session leave all indexes at each kind of end.
#[tokio::test]
async fn entries_leave_all_indexes_with_the_session() {
    let ends: [(&str, AsyncEnd); 6] = [
        ("revoke_all", |world, _| Box::pin(async { world.sessions.revoke_all("ada").await })),
        ("revoke", |world, key| {
            Box::pin(async move { world.sessions.revoke("ada", key).await.map(usize::from) })
        }),
        ("revoke_any", |world, key| {
            Box::pin(async move { world.sessions.revoke_any(key).await.map(usize::from) })
        }),
        ("revoke_linked", |world, _| {
            Box::pin(async { world.sessions.revoke_linked("sid", "1").await })
        }),
        ("revoke_others", |world, _| {
            Box::pin(async {
                let session = world.anonymous().await;
                session.authenticate("ada")?;
                let revoked = world.sessions.revoke_others(&session).await?;
                session.destroy()?;
                session.commit().await?;
                Ok(revoked)
            })
        }),
        ("eviction", |world, _| {
            Box::pin(async {
                world.wait(MINUTE);
                let limited = world.with_limit(1, AtLimit::EvictOldest);
                let id = limited.sign_in().await?;
                world.log_out(&id).await;
                Ok(1)
            })
        }),
    ];
    for (name, end) in ends {
        let world = World::new();
        let id = world.linked_user("ada").await;
        assert_eq!(world.count_entered().await, 2);
        assert_eq!(end(&world, id.key()).await.unwrap(), 1, "{name}");
        assert!(!world.opens(&id).await, "{name}");
        assert_eq!(world.count_entered().await, 0, "{name}");
    }
}

type AsyncEnd =
    for<'w> fn(
        &'w World,
        SessionKey,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<usize, SessionError>> + 'w>>;

#[tokio::test]
async fn longer_lifetime_is_entered_in_all_indexes() {
    let world = World::new();
    let id = world.linked_user("ada").await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    world.store.calls();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Enter, Verb::Enter, Verb::Commit]);
    world.wait(25 * HOUR);
    assert_eq!(world.linked().await, keys(&[&id]));
    assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 1);
}

/// I12: the entry of a link travels with the creation.
#[tokio::test]
async fn link_costs_no_round_trip_at_the_login() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    session.link("sid", "1").unwrap();
    let id = finish(session).await;
    assert_eq!(world.store.calls(), [Verb::CreateEntered]);
    let session = world.open(&id).await;
    session.rotate().unwrap();
    world.store.calls();
    let _ = session.finish().await.unwrap();
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::CreateEntered, Verb::Commit, Verb::Leave, Verb::Leave]);
}

#[tokio::test]
async fn event_of_revoke_linked_knows_the_owner() {
    let world = World::new();
    let id = world.linked_user("ada").await;
    let mut events = world.sessions.events();
    world.sessions.revoke_linked("sid", "1").await.unwrap();
    let event = events.try_next().unwrap();
    assert_eq!((event.key, event.owner), (id.key(), Some("ada".into())));
    assert_eq!(kinds(&mut events), []);
}

/// I10: the store knows a link by its hash alone.
#[tokio::test]
async fn store_holds_no_text_of_a_link() {
    let world = World::new();
    world
        .begin(|session| {
            session.authenticate("ada")?;
            session.link("identity-provider", "secret-session")
        })
        .await;
    let bytes = all_bytes_of(&world).await;
    for text in [&b"identity-provider"[..], b"secret-session"] {
        assert!(!bytes.windows(text.len()).any(|part| part == text));
    }
}

#[tokio::test]
async fn login_whose_answers_were_lost_is_in_the_index_of_the_link() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    session.link("sid", "1").unwrap();
    world.store.fail(Verb::CreateEntered, Fault::ANSWER_LOST);
    world.store.fail(Verb::Create, Fault::ANSWER_LOST);
    assert!(session.finish().await.is_err());
    assert_eq!(world.sessions.revoke_linked("sid", "1").await.unwrap(), 1);
    assert_eq!(world.count().await, (0, 0));
}

#[test]
fn revoke_linked_misses_no_session_whatever_it_does_meanwhile() {
    let deeds = [
        Deed::LinkedLogin,
        Deed::Login,
        Deed::Link,
        Deed::Renew,
        Deed::Rotate,
        Deed::Write,
        Deed::Lengthen,
        Deed::Logout,
    ];
    for deed in deeds {
        let make = || {
            let site = Site::new();
            let id = site.user_who(&[Deed::Link]);
            let requests = [site.request(Some(&id), deed), site.revoke_linked()];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            let context = format!("{deed:?} {order:?}: {answers:?}");
            assert!(!matches!(answers[1], Answer::Revoked(Err(_))), "{context}");
            let linked = run(site.sessions.list_linked("sid", "1")).unwrap().len();
            assert_eq!(linked, 0, "{context}");
            // A login without the link drops the link, and may come first.
            let lives = site.owned();
            assert!(lives <= usize::from(deed == Deed::Login), "{context}");
            if deed != Deed::Lengthen {
                assert_eq!(site.store.count_entered(site.now()), lives, "{context}");
            }
        });
    }
}

/// A concurrent login comes before or after the revocation, and always succeeds.
#[test]
fn linked_login_is_revoked_or_in_both_indexes() {
    for stored_before in [true, false] {
        let make = || {
            let site = Site::new();
            let id = stored_before.then(|| site.visitor());
            let requests = [site.request(id.as_ref(), Deed::LinkedLogin), site.revoke_linked()];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            let Some(id) = told_id(&answers[0]) else { panic!("{order:?}: {answers:?}") };
            let Answer::Revoked(Ok(revoked)) = answers[1] else { panic!("{order:?}: {answers:?}") };
            let lives = usize::from(site.opens(id));
            assert_eq!(lives + revoked, 1, "{order:?}");
            let entered = site.store.count_entered(site.now());
            assert_eq!((site.owned(), entered), (lives, 2 * lives), "{order:?}");
        });
    }
}

/// After a crash at any point, a revocation by the link finds every session.
#[test]
fn crash_at_any_point_loses_no_entry_of_a_link() {
    for deed in [Deed::LinkedLogin, Deed::Link, Deed::Renew, Deed::Rotate, Deed::Lengthen] {
        for steps in 0..14 {
            let site = Site::new();
            let id = site.user_who(&[Deed::Link]);
            let mut request = site.request(Some(&id), deed);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..steps {
                if request.as_mut().poll(&mut context).is_ready() {
                    break;
                }
            }
            drop(request);
            run(site.sessions.revoke_linked("sid", "1")).unwrap();
            assert_eq!(site.owned(), 0, "{deed:?}, {steps} steps");
        }
    }
}

#[tokio::test]
async fn link_alone_begins_a_session() {
    let world = World::new();
    let id = world.begin(|session| session.link("cart", "7")).await;
    assert_eq!(world.sessions.revoke_linked("cart", "7").await.unwrap(), 1);
    assert!(!world.opens(&id).await);
}
