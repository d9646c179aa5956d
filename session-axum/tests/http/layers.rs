//! Several layers in one application, and several applications on one host.

use axum::{
    Router,
    body::Body,
    http::{HeaderName, Request, StatusCode, header},
    routing::{get, post},
};
use insta::{allow_duplicates, assert_snapshot};
use session_axum::{
    BearerToken, MemoryStore, RequireSignIn, Session, SessionCookie, SessionError, SessionLayer,
    SessionName, SessionOf, SessionOrOutage, SessionSlot, Sessions, SignedIn, StoreErrorKind,
    Transport, Unnamed,
};

use crate::support::{Answer, COUNT, StoreControl, answer};

struct Admin;

impl SessionName for Admin {
    const NAME: &'static str = "admin";
}

async fn who(visitor: Session, admin: SessionOf<Admin>) -> String {
    format!("{:?} {:?}", visitor.owner_as::<u64>(), admin.owner_as::<u64>())
}

async fn count(visitor: Session, admin: SessionOf<Admin>) -> Result<(), SessionError> {
    visitor.update(COUNT, |count| *count += 1)?;
    admin.update(COUNT, |count| *count += 1)?;
    Ok(())
}

fn routes() -> Router {
    Router::new()
        .route("/who", get(who))
        .route("/count", post(count))
        .route("/login", post(async |session: Session| session.authenticate(7)))
        .route("/admin/login", post(async |admin: SessionOf<Admin>| admin.authenticate(1)))
        .route("/admin/logout", post(async |admin: SessionOf<Admin>| admin.destroy()))
}

async fn send(router: &Router, method: &str, path: &str, cookie: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header(header::COOKIE, cookie);
    answer(router.clone(), request.body(Body::empty()).unwrap()).await
}

async fn get_page(router: &Router, path: &str, cookie: &str) -> Answer {
    send(router, "GET", path, cookie).await
}

/// The router with both layers on one store, in both orders.
fn in_both_orders(routes: impl Fn() -> Router) -> [Router; 2] {
    let layer = SessionLayer::new(Sessions::new(MemoryStore::default()));
    let admin = layer.clone().named::<Admin>();
    [routes().layer(layer.clone()).layer(admin.clone()), routes().layer(admin).layer(layer)]
}

#[tokio::test]
async fn handler_uses_two_sessions_in_any_order_of_the_layers() {
    for router in in_both_orders(routes) {
        let visitor = send(&router, "POST", "/login", "").await.cookie();
        let admin = send(&router, "POST", "/admin/login", "").await.cookie();
        assert!(visitor.starts_with("__Host-session="), "{visitor}");
        assert!(admin.starts_with("__Host-admin-session="), "{admin}");
        let both = format!("{visitor}; {admin}");
        assert_eq!(get_page(&router, "/who", &both).await.body, "Some(7) Some(1)");
        assert_eq!(get_page(&router, "/who", &admin).await.body, "None Some(1)");
        assert_eq!(send(&router, "POST", "/count", &both).await.status, StatusCode::OK);
        let answer = send(&router, "POST", "/admin/logout", &both).await;
        assert!(answer.set_cookie().unwrap().starts_with("__Host-admin-session=;"));
        assert_eq!(get_page(&router, "/who", &both).await.body, "Some(7) None");
        // A first write begins a session in each.
        let begun = send(&router, "POST", "/count", "").await;
        assert_eq!(begun.headers.get_all(header::SET_COOKIE).iter().count(), 2);
    }
}

/// A user renames the own cookie to the administrator's, and the reverse.
#[tokio::test]
async fn id_of_one_layer_opens_nothing_in_another_on_the_same_store() {
    for router in in_both_orders(routes) {
        let visitor = send(&router, "POST", "/login", "").await.cookie();
        let admin = send(&router, "POST", "/admin/login", "").await.cookie();
        let (_, visitor) = visitor.split_once('=').unwrap();
        let (_, admin) = admin.split_once('=').unwrap();
        let swapped = format!("__Host-session={admin}; __Host-admin-session={visitor}");
        assert_eq!(get_page(&router, "/who", &swapped).await.body, "None None");
    }
}

/// Also without names: two applications that gave their cookies names of their own.
#[tokio::test]
async fn id_opens_nothing_under_the_name_of_another_cookie() {
    let sessions = Sessions::new(MemoryStore::default());
    let app = |name: &str| {
        let cookie = SessionCookie::default().with_name(name).unwrap();
        routes().layer(SessionLayer::new(sessions.clone()).with_cookie(cookie))
    };
    let names = ["__Host-session", "__Host-shop", "session", "sid"];
    for own in names {
        let cookie = send(&app(own), "POST", "/login", "").await.cookie();
        let (_, id) = cookie.split_once('=').unwrap();
        let me =
            Router::new().route("/", get(async |SignedIn(user): SignedIn<u64>| user.to_string()));
        for other in names {
            let cookie = SessionCookie::default().with_name(other).unwrap();
            let app = me.clone().layer(SessionLayer::new(sessions.clone()).with_cookie(cookie));
            let opens =
                get_page(&app, "/", &format!("{other}={id}")).await.status == StatusCode::OK;
            assert_eq!(opens, other == own, "{own} as {other}");
        }
    }
}

#[tokio::test]
async fn token_of_one_named_layer_opens_nothing_in_another() {
    let layer = SessionLayer::new(MemoryStore::default()).with_transport(BearerToken::default());
    let admin = layer.clone().named::<Admin>();
    let router = routes().layer(layer).layer(admin);
    let login = send(&router, "POST", "/login", "").await;
    let token = format!("Bearer {}", login.headers["session-token"].to_str().unwrap());
    let request = Request::get("/who").header(header::AUTHORIZATION, token);
    let answer = answer(router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.body, "Some(7) None");
}

/// The token is of one name. The token is unknown to the layer of the other name.
#[tokio::test]
async fn challenge_of_two_layers_reports_a_token_that_both_do_not_know() {
    for router in {
        let layer = SessionLayer::new(Sessions::new(MemoryStore::default()));
        let layer = layer.with_transport(BearerToken::default());
        let admin = layer.clone().named::<Admin>();
        let refuse = async |_: Session, _: SessionOf<Admin>| StatusCode::UNAUTHORIZED;
        let routes = || routes().route("/refuse", get(refuse));
        [routes().layer(layer.clone()).layer(admin.clone()), routes().layer(admin).layer(layer)]
    } {
        let challenge = async |authorization: &str| {
            let request = Request::get("/refuse").header(header::AUTHORIZATION, authorization);
            let refused = answer(router.clone(), request.body(Body::empty()).unwrap()).await;
            refused.header(header::WWW_AUTHENTICATE).unwrap().to_owned()
        };
        for (path, header) in [("/login", "session-token"), ("/admin/login", "admin-session-token")]
        {
            let login = send(&router, "POST", path, "").await;
            let token = login.headers[header].to_str().unwrap();
            assert_eq!(challenge(&format!("Bearer {token}")).await, "Bearer", "{header}");
        }
        let dead = challenge("Bearer dead").await;
        assert_eq!(dead, r#"Bearer error="invalid_token""#);
    }
}

/// I7: the store of the token's layer cannot be asked. The client must not give the token up.
#[tokio::test]
async fn challenge_during_an_outage_never_refuses_the_token() {
    let store = StoreControl::default();
    let bearer = |layer: SessionLayer| layer.with_transport(BearerToken::default());
    let layer = bearer(SessionLayer::new(MemoryStore::default()));
    let admin = bearer(SessionLayer::new(store.store())).named::<Admin>();
    let refuse = async |_: Session, _: SessionOrOutage<Admin>| StatusCode::UNAUTHORIZED;
    let routes = || routes().route("/refuse", get(refuse));
    for router in
        [routes().layer(layer.clone()).layer(admin.clone()), routes().layer(admin).layer(layer)]
    {
        let login = send(&router, "POST", "/admin/login", "").await;
        let token = login.headers["admin-session-token"].to_str().unwrap().to_owned();
        store.fail_all(StoreErrorKind::Unavailable);
        let request =
            Request::get("/refuse").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let refused = answer(router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.header(header::WWW_AUTHENTICATE), Some("Bearer"));
        store.recover();
    }
}

/// The client of two APIs, with a token for each.
#[tokio::test]
async fn two_named_layers_report_their_tokens_in_two_headers() {
    struct Staff;
    impl SessionName for Staff {
        const NAME: &'static str = "staff";
    }
    let routes = Router::new()
        .route(
            "/begin",
            post(async |admin: SessionOf<Admin>, staff: SessionOf<Staff>| {
                admin.authenticate(1)?;
                staff.authenticate(2)
            }),
        )
        .route("/admin", get(async |SignedIn(user): SignedIn<u64, Admin>| user.to_string()))
        .route("/staff", get(async |SignedIn(user): SignedIn<u64, Staff>| user.to_string()))
        .route("/staff/renew", post(async |staff: SessionOf<Staff>| staff.renew()))
        .route("/staff/logout", post(async |staff: SessionOf<Staff>| staff.destroy()));
    let layer = SessionLayer::new(Sessions::new(MemoryStore::default()));
    let layer = layer.with_transport(BearerToken::default());
    let (admin, staff) = (layer.clone().named::<Admin>(), layer.named::<Staff>());
    let header = |layer: &SessionLayer| layer.bearer_token().unwrap().response_header().clone();
    let (for_admin, for_staff) = (header(&admin), header(&staff));
    assert_eq!(
        (for_admin.as_str(), for_staff.as_str()),
        ("admin-session-token", "staff-session-token")
    );

    for router in
        [routes.clone().layer(admin.clone()).layer(staff.clone()), routes.layer(staff).layer(admin)]
    {
        let send = async |route: &str, token: &str| {
            let (method, path) = route.split_once(' ').unwrap();
            let request = Request::builder().method(method).uri(path);
            let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            answer(router.clone(), request.body(Body::empty()).unwrap()).await
        };
        let begun = send("POST /begin", "").await;
        let token = |header: &HeaderName| begun.header(header.clone()).unwrap();
        assert_eq!(begun.header(HeaderName::from_static("session-token")), None);
        assert_eq!(send("GET /admin", token(&for_admin)).await.body, "1");
        assert_eq!(send("GET /staff", token(&for_staff)).await.body, "2");
        let swapped = send("GET /staff", token(&for_admin)).await;
        assert_eq!(swapped.status, StatusCode::UNAUTHORIZED);

        let renewed = send("POST /staff/renew", token(&for_staff)).await;
        assert_eq!(renewed.header(for_admin.clone()), None, "the other token stays");
        let renewed = renewed.header(for_staff.clone()).unwrap().to_owned();
        let ended = send("POST /staff/logout", &renewed).await;
        assert_eq!(
            (ended.header(for_staff.clone()), ended.header(for_admin.clone())),
            (Some(""), None)
        );
        assert_eq!(send("GET /admin", token(&for_admin)).await.body, "1");
    }
}

/// Two programs on one host, with a path each, and a cookie of its own name each. The browser sends
/// both cookies to both programs.
#[tokio::test]
async fn two_programs_with_cookies_of_other_names_never_sign_each_other_out() {
    let program = |name: &str| {
        let cookie = SessionCookie::default().with_name(name).unwrap();
        let layer = SessionLayer::new(MemoryStore::default()).with_cookie(cookie);
        Router::new()
            .route("/login", post(async |session: Session| session.authenticate(7)))
            .route("/logout", post(async |session: Session| session.destroy()))
            .route("/", get(async |session: Session| session.owner().is_some().to_string()))
            .layer(layer)
    };
    let (shop, wiki) = (program("__Host-shop"), program("__Host-wiki"));
    let in_shop = send(&shop, "POST", "/login", "").await.cookie();
    let in_wiki = send(&wiki, "POST", "/login", &in_shop).await.cookie();
    let both = format!("{in_shop}; {in_wiki}");
    let answer = send(&wiki, "POST", "/logout", &both).await;
    assert!(answer.set_cookie().unwrap().starts_with("__Host-wiki=;"), "and no other cookie");
    assert_eq!(get_page(&shop, "/", &both).await.body, "true");
    assert_eq!(get_page(&wiki, "/", &both).await.body, "false");
}

#[tokio::test]
async fn guard_of_a_name_asks_for_the_session_of_that_name() {
    for router in in_both_orders(|| {
        let guard = RequireSignIn::redirect_to("/admin/login").unwrap().named::<Admin>();
        routes().route("/admin", get(async || "for administrators").route_layer(guard))
    }) {
        let visitor = send(&router, "POST", "/login", "").await.cookie();
        let refused = get_page(&router, "/admin", &visitor).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        let admin = send(&router, "POST", "/admin/login", "").await.cookie();
        assert_eq!(get_page(&router, "/admin", &admin).await.body, "for administrators");
    }
}

#[tokio::test]
async fn handler_behind_a_named_guard_gets_the_user_of_that_name() {
    async fn both(admin: SignedIn<u64, Admin>, visitor: Session) -> String {
        format!("{admin:?} {:?}", visitor.owner_as::<u64>())
    }
    for router in in_both_orders(|| {
        let pages = Router::new()
            .route("/user", get(async |SignedIn(user): SignedIn<u64, Admin>| user.to_string()))
            .route("/both", get(both))
            .route_layer(RequireSignIn::new().named::<Admin>());
        routes().merge(pages)
    }) {
        let visitor = send(&router, "POST", "/login", "").await.cookie();
        let admin = send(&router, "POST", "/admin/login", "").await.cookie();
        let both = format!("{visitor}; {admin}");
        assert_eq!(get_page(&router, "/user", &both).await.body, "1");
        assert_eq!(get_page(&router, "/both", &both).await.body, "SignedIn(1) Some(7)");
        assert_eq!(get_page(&router, "/both", &admin).await.body, "SignedIn(1) None");
    }
}

/// The handler would act for another user of the same browser than the guard has checked.
#[tokio::test]
async fn handler_that_asks_for_another_user_than_its_guard_is_refused() {
    struct Staff;
    impl SessionName for Staff {
        const NAME: &'static str = "staff";
    }
    async fn user<N: SessionSlot>(SignedIn(user): SignedIn<u64, N>) -> String {
        user.to_string()
    }
    let optional = get(async |user: Option<SignedIn<u64>>| format!("{user:?}"));
    let session = get(async |session: Session| format!("{:?}", session.owner_as::<u64>()));
    let (unnamed, named) = (RequireSignIn::new(), RequireSignIn::new().named::<Admin>());
    for router in in_both_orders(|| {
        // The last guard is the outermost.
        routes()
            .route("/forgotten", get(user::<Unnamed>).route_layer(named.clone()))
            .route("/optional", optional.clone().route_layer(named.clone()))
            .route("/staff", get(user::<Staff>).route_layer(named.clone()))
            .route(
                "/portal/forgotten",
                get(user::<Unnamed>).route_layer(named.clone()).route_layer(unnamed.clone()),
            )
            .route(
                "/portal/admin",
                get(user::<Admin>).route_layer(named.clone()).route_layer(unnamed.clone()),
            )
            .route(
                "/admin/user",
                get(user::<Unnamed>).route_layer(unnamed.clone()).route_layer(named.clone()),
            )
            .route("/session", session.clone().route_layer(named.clone()))
            .route("/user", get(user::<Unnamed>).route_layer(unnamed.clone()))
            .route("/named", get(user::<Admin>).route_layer(unnamed.clone()))
            .route("/free", optional.clone())
    }) {
        let visitor = send(&router, "POST", "/login", "").await.cookie();
        let admin = send(&router, "POST", "/admin/login", "").await.cookie();
        let cookies = format!("{visitor}; {admin}");
        for path in ["/forgotten", "/optional", "/staff", "/portal/forgotten"] {
            let refused = get_page(&router, path, &cookies).await;
            assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            allow_duplicates! { assert_snapshot!(refused.body, @"the guard of this route demands a user of the session `admin`, and the handler asks for the user of another session: give `SignedIn` the name of the guard's session, put the guard inside of the same layer, or read the other user by `Session::owner_as`"); }
        }
        for (path, body) in [
            ("/portal/admin", "1"),
            ("/admin/user", "7"),
            ("/session", "Some(7)"),
            ("/user", "7"),
            ("/named", "1"),
            ("/free", "Some(SignedIn(7))"),
        ] {
            assert_eq!(get_page(&router, path, &cookies).await.body, body, "{path}");
        }
    }
}

/// The guard has checked the user of the outer store, and the handler would act for that of the inner.
#[tokio::test]
async fn guard_between_two_layers_without_names_permits_no_other_user() {
    let user = get(async |SignedIn(user): SignedIn<u64>| user.to_string());
    let inner = SessionLayer::new(MemoryStore::default());
    let outer = SessionLayer::new(MemoryStore::default());
    let routes = || routes().route("/user", user.clone());
    let router = routes().layer(inner.clone()).layer(RequireSignIn::new()).layer(outer.clone());
    let cookie = send(&routes().layer(outer), "POST", "/login", "").await.cookie();
    let refused = get_page(&router, "/user", &cookie).await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        refused.body.contains("demands a user of a session without a name"),
        "{}",
        refused.body
    );
    let router = routes().layer(RequireSignIn::new()).layer(inner.clone());
    let cookie = send(&routes().layer(inner), "POST", "/login", "").await.cookie();
    assert_eq!(get_page(&router, "/user", &cookie).await.body, "7");
}

#[tokio::test]
async fn extractor_of_the_application_works_for_each_layer() {
    async fn user<N: SessionSlot>(SignedIn(user): SignedIn<u64, N>) -> String {
        user.to_string()
    }
    async fn session<N: SessionSlot>(session: SessionOf<N>) -> String {
        format!("{:?}", session.owner_as::<u64>())
    }
    for router in in_both_orders(|| {
        routes()
            .route("/user", get(user::<Unnamed>))
            .route("/admin", get(user::<Admin>))
            .route("/session", get(session::<Unnamed>))
            .route("/admin/session", get(session::<Admin>))
    }) {
        let visitor = send(&router, "POST", "/login", "").await.cookie();
        let admin = send(&router, "POST", "/admin/login", "").await.cookie();
        let cookies = format!("{visitor}; {admin}");
        for (path, text) in [
            ("/user", "7"),
            ("/admin", "1"),
            ("/session", "Some(7)"),
            ("/admin/session", "Some(1)"),
        ] {
            assert_eq!(get_page(&router, path, &cookies).await.body, text, "{path}");
        }
        assert_eq!(get_page(&router, "/admin", &visitor).await.status, StatusCode::UNAUTHORIZED);
    }
}

/// The store of the session without a name works on.
#[tokio::test]
async fn outage_of_one_layer_leaves_the_session_of_the_other() {
    async fn page(visitor: SessionOrOutage, admin: SessionOrOutage<Admin>) -> String {
        format!("{} {}", visitor.outage().is_some(), admin.outage().is_some())
    }
    let (visitors, admins) = (StoreControl::default(), StoreControl::default());
    let router = routes()
        .route("/page", get(page))
        .route("/user", get(async |_: Option<SignedIn<u64, Admin>>| "never"))
        .layer(SessionLayer::new(visitors.store()))
        .layer(SessionLayer::new(admins.store()).named::<Admin>());
    let visitor = send(&router, "POST", "/login", "").await.cookie();
    let admin = send(&router, "POST", "/admin/login", "").await.cookie();
    let cookies = format!("{visitor}; {admin}");
    assert_eq!(get_page(&router, "/page", &cookies).await.body, "false false");
    admins.fail_all(StoreErrorKind::Unavailable);
    assert_eq!(get_page(&router, "/page", &cookies).await.body, "false true");
    assert_eq!(get_page(&router, "/user", &cookies).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn missing_layer_of_a_name_is_reported_with_the_remedy() {
    async fn optional(admin: Option<SessionOf<Admin>>) -> String {
        admin.is_some().to_string()
    }
    let router = routes()
        .route("/optional", get(optional))
        .route("/user", get(async |_: Option<SignedIn<u64, Admin>>| "never"))
        .route("/outage", get(async |_: SessionOrOutage<Admin>| "never"))
        .layer(SessionLayer::new(MemoryStore::default()));
    let answer = get_page(&router, "/who", "").await;
    for path in ["/user", "/outage"] {
        assert_eq!(get_page(&router, path, "").await.body, answer.body, "{path}");
    }
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_snapshot!(answer.body, @"no session `admin` on this route: call `.layer(SessionLayer::new(store).named::<..>())` on its router, after its routes and after the layers that use the session");
    assert_eq!(get_page(&router, "/optional", "").await.body, "false");
    let router = router.layer(SessionLayer::new(MemoryStore::default()).named::<Admin>());
    assert_eq!(get_page(&router, "/optional", "").await.body, "true");
}

#[test]
fn name_is_a_part_of_every_cookie_name() {
    let layer = SessionLayer::new(MemoryStore::default()).named::<Admin>();
    let name = |layer: &SessionLayer| layer.cookie().unwrap().name().to_owned();
    assert_eq!(name(&layer), "__Host-admin-session");
    let insecure = SessionCookie::insecure_for_development();
    assert_eq!(name(&layer.clone().with_cookie(insecure.clone())), "admin-session");
    let own = SessionCookie::default().with_name("__Host-office").unwrap();
    assert_eq!(name(&layer.clone().with_cookie(own)), "__Host-admin-office");
    let shared = SessionCookie::default().with_name("__Secure-office").unwrap();
    assert_eq!(name(&layer.clone().with_cookie(shared)), "__Secure-admin-office");
    let token = layer.clone().with_transport(BearerToken::default());
    assert!(token.cookie().is_none() && token.bearer_token().is_some());
    let both = Transport::CookieOrBearer(insecure, BearerToken::default());
    assert_eq!(name(&layer.with_transport(both)), "admin-session");
}

/// The outer layer sees the error of the inner one, and stores nothing of a request that failed.
#[tokio::test]
async fn failed_commit_of_the_inner_layer_stores_nothing_of_the_outer() {
    let (inner, outer) = (StoreControl::default(), StoreControl::default());
    let router = routes()
        .layer(SessionLayer::new(inner.store()).named::<Admin>())
        .layer(SessionLayer::new(outer.store()));
    inner.fail_all(StoreErrorKind::Full);
    let answer = send(&router, "POST", "/count", "").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookie()), (503, None));
    assert!(outer.take_calls().is_empty());
}
