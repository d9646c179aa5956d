//! I10: an ID of one realm opens nothing in another.

use session_core::{Session, SessionId, Sessions};

use crate::support::{NOTE, VISITS, World, told};

async fn open(sessions: &Sessions, id: &SessionId) -> Session {
    sessions.open([id.expose().as_bytes()]).await.unwrap()
}

/// Begins a session of a user in a realm.
async fn sign_in(sessions: &Sessions, owner: u64) -> SessionId {
    let session = sessions.open([]).await.unwrap();
    session.authenticate(owner).unwrap();
    told(session.finish().await.unwrap())
}

async fn opens(sessions: &Sessions, id: &SessionId) -> bool {
    open(sessions, id).await.key().is_some()
}

#[tokio::test]
async fn id_of_one_realm_opens_nothing_in_another() {
    let World { sessions, .. } = World::new();
    let realms = [
        sessions.clone(),
        sessions.in_realm("bearer"),
        sessions.in_realm("admin"),
        sessions.in_realm("admin").in_realm("bearer"),
    ];
    for (place, own) in realms.iter().enumerate() {
        let id = sign_in(own, 7).await;
        for (other, sessions) in realms.iter().enumerate() {
            assert_eq!(opens(sessions, &id).await, other == place, "{place} in {other}");
        }
    }
    assert!(opens(&sessions.in_realm("bearer"), &sign_in(&realms[1], 7).await).await);
}

#[tokio::test]
async fn writes_and_ends_stay_in_their_realm() {
    let World { sessions, .. } = World::new();
    let bearer = sessions.in_realm("bearer");
    let id = sign_in(&sessions, 7).await;
    let stranger = open(&bearer, &id).await;
    assert!(stranger.had_unknown_id());
    stranger.set(VISITS, 1).unwrap();
    let new = told(stranger.finish().await.unwrap());
    assert!(opens(&bearer, &new).await && !opens(&sessions, &new).await);

    let stranger = open(&bearer, &id).await;
    stranger.destroy().unwrap();
    let _ = stranger.finish().await.unwrap();
    assert!(opens(&sessions, &id).await);
}

/// Each move generates an ID, and a former ID leads to the present one.
#[tokio::test]
async fn session_keeps_its_realm_through_every_move() {
    let moves: [fn(&Session); 4] = [
        |session| session.authenticate(7).unwrap(),
        |session| session.reauthenticate(7).unwrap(),
        |session| session.rotate().unwrap(),
        |session| session.renew().unwrap(),
    ];
    let World { sessions, .. } = World::new();
    let bearer = sessions.in_realm("bearer");
    for (place, change) in moves.into_iter().enumerate() {
        let former = sign_in(&bearer, 7).await;
        let session = open(&bearer, &former).await;
        change(&session);
        let id = told(session.finish().await.unwrap());
        assert!(opens(&bearer, &id).await && !opens(&sessions, &id).await, "move {place}");
        assert!(!opens(&sessions, &former).await, "move {place}");
        // The response with the renewed ID was lost.
        let session = open(&bearer, &former).await;
        let is_renewal = place == 3;
        assert_eq!(session.key(), is_renewal.then(|| id.key()), "move {place}");
        if is_renewal {
            assert_eq!(told(session.finish().await.unwrap()).expose(), id.expose());
        }
    }
}

/// The second click of a double click joins the session of the first, which is in the same realm.
#[tokio::test]
async fn login_joins_a_login_of_its_own_realm_only() {
    let World { sessions, .. } = World::new();
    let bearer = sessions.in_realm("bearer");
    let visitor = bearer.open([]).await.unwrap();
    visitor.set(VISITS, 1).unwrap();
    let id = told(visitor.finish().await.unwrap());
    let login = async |sessions: &Sessions| {
        let session = open(sessions, &id).await;
        session.authenticate(7).unwrap();
        told(session.finish().await.unwrap())
    };
    let first = login(&bearer).await;
    assert_eq!(login(&bearer).await.expose(), first.expose());
    assert_ne!(login(&sessions).await.expose(), first.expose());
}

#[tokio::test]
async fn realms_share_the_list_of_an_owner() {
    let World { sessions, .. } = World::new();
    let bearer = sessions.in_realm("bearer");
    let ids = [sign_in(&sessions, 7).await, sign_in(&bearer, 7).await];
    assert_eq!(bearer.list(7).await.unwrap().len(), 2);
    let session = open(&bearer, &ids[1]).await;
    session.set(NOTE, "from the request").unwrap();
    assert_eq!(session.sessions().revoke_others(&session).await.unwrap(), 1);
    assert!(!opens(&sessions, &ids[0]).await && opens(&bearer, &ids[1]).await);
    // The handle of a request is of the request's realm.
    assert!(opens(&session.sessions(), &ids[1]).await);
    assert_eq!(sessions.revoke_all(7).await.unwrap(), 1);
    assert!(!opens(&bearer, &ids[1]).await);
}
