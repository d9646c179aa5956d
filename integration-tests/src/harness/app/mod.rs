//! The application of the end-to-end tests: small routes, each of which uses its session in a different
//! way.

mod gates;
mod keys;
mod locked;

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::sse::{Event, Sse},
    routing::{get, post},
};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use session_axum::{
    Key, Lifetime, Owner, Session, SessionCookie, SessionError, SessionKey, SessionLayer,
    SessionOrOutage, SessionRejection, Sessions,
};

use gates::Gates;

pub use keys::{COUNT, DEVICE};

/// The link that `POST /login/{owner}/{sid}` sets.
const SID: &str = "sid";

/// Returns a router with all routes, over the given sessions.
///
/// | route | does |
/// | --- | --- |
/// | `GET /plain` | uses no session |
/// | `GET /session` | returns all values of the session |
/// | `POST /count` | increments [`COUNT`] by `update`, returns the value |
/// | `POST /set/{name}/{value}` | sets a text |
/// | `POST /slow/{gate}/{name}/{value}` | loads the session, waits for the gate, sets a text |
/// | `POST /slow-count/{gate}` | loads the session, waits for the gate, increments [`COUNT`] |
/// | `POST /gates/{gate}/wait`, `…/open` | waits until a request stands at the gate; lets it go on |
/// | `POST /login/{owner}`, `POST /logout` | signs in, signs out |
/// | `POST /login/{owner}/{sid}` | signs in, with a link |
/// | `GET /linked/{sid}`, `POST /end-linked/{sid}` | lists the owners of the linked sessions; revokes the sessions |
/// | `POST /act-as/{user}`, `POST /stop-acting` | acts as a user for half an hour; goes back |
/// | `POST /renew` | requests a new ID |
/// | `POST /device/{name}` | records the user's device |
/// | `GET /devices` | returns the sessions of the session's owner |
/// | `POST /end/{key}` | revokes one of them, returns `true` if it existed |
/// | `POST /end-all`, `POST /end-others` | revokes all, or all others, and returns their number |
/// | `GET /live` | streams an event `open` with the key, and an event `ended` with the reason |
/// | `POST /lifetime/{idle}/{absolute}` | sets a lifetime, in milliseconds |
/// | `POST /locked/add` | under the lock: adds one to the number in the file `COUNTER_FILE`, and to [`COUNT`] |
/// | `POST /locked/set/{name}/{value}` | under the lock: sets a text |
/// | `POST /locked/slow/{gate}/{name}/{value}` | under the lock: waits for the gate, sets a text |
/// | `GET /count-as-text` | reads the count as a text, which is the wrong type |
/// | `GET /optional` | handles an outage of the store by itself, with status 200 |
/// | `GET /public` | a page that also works during an outage, and reports it |
/// | `POST /public` | increments [`COUNT`] unless the store is down |
pub fn app(sessions: impl Into<Sessions>) -> Router {
    let layer = SessionLayer::new(sessions).with_cookie(SessionCookie::insecure_for_development());
    Router::new()
        .route("/plain", get(async || "plain"))
        .route("/session", get(session))
        .route("/count", post(count))
        .route("/set/{name}/{value}", post(set))
        .route("/slow/{gate}/{name}/{value}", post(slow))
        .route("/slow-count/{gate}", post(slow_count))
        .route("/gates/{gate}/wait", post(wait_at_gate))
        .route("/gates/{gate}/open", post(open_gate))
        .route("/login/{owner}", post(login))
        .route("/login/{owner}/{sid}", post(linked_login))
        .route("/linked/{sid}", get(linked))
        .route("/end-linked/{sid}", post(end_linked))
        .route("/act-as/{user}", post(act_as))
        .route("/stop-acting", post(stop_acting))
        .route("/logout", post(logout))
        .route("/renew", post(renew))
        .route("/device/{name}", post(device))
        .route("/devices", get(devices))
        .route("/end/{key}", post(end_one))
        .route("/end-all", post(end_all))
        .route("/end-others", post(end_others))
        .route("/live", get(live))
        .route("/lifetime/{idle}/{absolute}", post(lifetime))
        .route("/count-as-text", get(count_as_text))
        .route("/optional", get(optional))
        .route("/public", get(public).post(public_count))
        .nest("/locked", locked::routes())
        .with_state(Gates::default())
        .layer(layer)
}

async fn session(session: Session) -> Json<Value> {
    let values: BTreeMap<_, _> = session
        .names()
        .into_iter()
        .map(|name| {
            let value = match session.try_get(Key::<String>::new(&name)) {
                Ok(text) => json!(text),
                Err(_) => json!(session.get(Key::<u64>::new(&name))),
            };
            (name, value)
        })
        .collect();
    Json(json!({
        "key": session.key().map(|key| key.to_string()),
        "owner": session.owner().and_then(|owner| owner.as_str().map(str::to_owned)),
        "actor": session.actor().and_then(|actor| actor.as_str().map(str::to_owned)),
        "values": values,
    }))
}

async fn count(session: Session) -> Result<String, SessionError> {
    Ok(session.update(COUNT, |count| *count += 1)?.to_string())
}

async fn set(
    session: Session,
    Path((name, value)): Path<(String, String)>,
) -> Result<(), SessionError> {
    session.set(Key::<String>::new(&name), &value)
}

async fn slow(
    session: Session,
    State(gates): State<Gates>,
    Path((gate, name, value)): Path<(String, String, String)>,
) -> Result<(), SessionError> {
    gates.pass(&gate).await;
    session.set(Key::<String>::new(&name), &value)
}

async fn slow_count(
    session: Session,
    State(gates): State<Gates>,
    Path(gate): Path<String>,
) -> Result<String, SessionError> {
    gates.pass(&gate).await;
    count(session).await
}

async fn wait_at_gate(State(gates): State<Gates>, Path(gate): Path<String>) {
    gates.gate(&gate).arrived.acquire().await.expect("never closed").forget();
}

async fn open_gate(State(gates): State<Gates>, Path(gate): Path<String>) {
    gates.gate(&gate).open.add_permits(1);
}

async fn login(session: Session, Path(owner): Path<String>) -> Result<(), SessionError> {
    session.authenticate(owner)
}

async fn linked_login(
    session: Session,
    Path((owner, sid)): Path<(String, String)>,
) -> Result<(), SessionError> {
    session.authenticate(owner)?;
    session.link(SID, sid)
}

async fn linked(session: Session, Path(sid): Path<String>) -> Result<Json<Value>, SessionError> {
    let list = session.sessions().list_linked(SID, sid).await?;
    let owners = list.iter().map(|info| info.owner().and_then(Owner::as_str));
    Ok(Json(owners.collect()))
}

async fn end_linked(session: Session, Path(sid): Path<String>) -> Result<String, SessionError> {
    Ok(session.sessions().revoke_linked(SID, sid).await?.to_string())
}

async fn act_as(session: Session, Path(user): Path<String>) -> Result<(), SessionError> {
    session.act_as(user, Duration::from_secs(1800))
}

async fn stop_acting(session: Session) -> Result<(), SessionError> {
    session.stop_acting()
}

async fn logout(session: Session) -> Result<(), SessionError> {
    session.destroy()
}

async fn renew(session: Session) -> Result<(), SessionError> {
    session.renew()
}

async fn live(
    session: Session,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, SessionError> {
    let mut live = session.live().await?;
    let open = Event::default().event("open").data(live.key().to_string());
    let ended =
        async move { Event::default().event("ended").data(format!("{:?}", live.ended().await)) };
    Ok(Sse::new(stream::iter([open]).chain(stream::once(ended)).map(Ok)))
}

async fn device(session: Session, Path(name): Path<String>) -> Result<(), SessionError> {
    session.set(DEVICE, &name)
}

async fn devices(session: Session) -> Result<Json<Value>, SessionError> {
    let Some(owner) = session.owner() else { return Ok(Json(json!([]))) };
    let list = session.sessions().list(owner).await?;
    let list = list.iter().map(|info| {
        json!({
            "key": info.key().to_string(),
            "device": info.get(DEVICE),
            "current": info.is(&session),
            "created_at": info.created_at().as_millis(),
            "last_seen_at": info.last_seen_at().as_millis(),
        })
    });
    Ok(Json(list.collect()))
}

async fn end_one(session: Session, Path(key): Path<String>) -> Result<String, SessionError> {
    let ended = match (session.owner(), key.parse::<SessionKey>()) {
        (Some(owner), Ok(key)) => session.sessions().revoke(owner, key).await?,
        _ => false,
    };
    Ok(ended.to_string())
}

async fn end_all(session: Session) -> Result<String, SessionError> {
    match session.owner() {
        Some(owner) => Ok(session.sessions().revoke_all(owner).await?.to_string()),
        None => Ok("0".to_owned()),
    }
}

async fn end_others(session: Session) -> Result<String, SessionError> {
    Ok(session.sessions().revoke_others(&session).await?.to_string())
}

async fn lifetime(
    session: Session,
    Path((idle, absolute)): Path<(u64, u64)>,
) -> Result<StatusCode, SessionError> {
    let millis = Duration::from_millis;
    let Ok(lifetime) = Lifetime::new(millis(idle), millis(absolute)) else {
        return Ok(StatusCode::BAD_REQUEST);
    };
    session.set_lifetime(lifetime)?;
    Ok(StatusCode::OK)
}

async fn count_as_text(session: Session) -> String {
    session.get(Key::<String>::new(COUNT.name())).unwrap_or_else(|| "none".to_owned())
}

async fn optional(session: Result<Session, SessionRejection>) -> String {
    match session {
        Ok(session) => format!("count {:?}", session.get(COUNT)),
        Err(rejection) => format!("no session: {rejection}"),
    }
}

async fn public(session: SessionOrOutage) -> String {
    let owner = session.owner().and_then(|owner| owner.as_str().map(str::to_owned));
    let (count, outage) = (session.get(COUNT), session.outage().is_some());
    format!("owner {owner:?}, count {count:?}, outage {outage}")
}

async fn public_count(session: SessionOrOutage) -> Result<String, SessionError> {
    Ok(session.require()?.update(COUNT, |count| *count += 1)?.to_string())
}
