//! The program, seen by a browser.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody as _, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use session_axum::{Backend, MemoryStore, SessionCookie, StoreError, Timestamp};
use session_core::{
    async_trait,
    testing::{Answer, Intercept, Intercepted, Operation, Verb},
};
use tokio::time::{Instant, sleep, timeout_at};
use tower::ServiceExt as _;

use super::live::{MIN_PAUSE, REFRESH};

fn app(store: impl Backend) -> Router {
    super::super::app(store, SessionCookie::insecure_for_development()).unwrap()
}

/// A browser with a jar for one cookie.
struct Device {
    app: Router,
    cookie: Option<String>,
}

impl Device {
    fn new(app: &Router) -> Self {
        Self { app: app.clone(), cookie: None }
    }

    async fn send(&mut self, request: Request<Body>) -> Response<Body> {
        let response = self.app.clone().oneshot(request).await.unwrap();
        if let Some(set) = response.headers().get(header::SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        response
    }

    fn request(&self, path: &str) -> axum::http::request::Builder {
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, "localhost:3000")
            .header(header::ACCEPT, "text/html");
        match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        }
    }

    async fn page(&mut self) -> String {
        let response = self.send(self.request("/").body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        text(response).await
    }

    async fn post_from(&mut self, site: &str, path: &str, form: &str) -> Response<Body> {
        let request = self
            .request(path)
            .method("POST")
            .header("sec-fetch-site", site)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.unwrap()).await
    }

    async fn post(&mut self, path: &str, form: &str) {
        let response = self.post_from("same-origin", path, form).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path}");
    }
}

async fn text(response: Response<Body>) -> String {
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn form_of_another_site_sets_no_cookie() {
    let app = app(MemoryStore::default());
    for path in ["/login", "/visit"] {
        // The browser does not send her cookie, which is `SameSite`.
        let mut without = Device::new(&app);
        let response = without.post_from("cross-site", path, "user=mallory").await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(without.cookie.is_none(), "{path}");
        assert!(text(response).await.contains("sent by another site"), "{path}");
    }
    let mut ada = Device::new(&app);
    ada.post("/login", "user=ada").await;
    assert!(ada.page().await.contains("ada"));
}

#[tokio::test]
async fn device_signed_out_elsewhere_sees_a_note_after_any_request() {
    for path in ["/", "/visit", "/logout", "/devices/end", "/devices/end-others"] {
        let app = app(MemoryStore::default());
        let mut devices = [Device::new(&app), Device::new(&app), Device::new(&app)];
        for device in &mut devices {
            device.post("/login", "user=ada").await;
        }
        let [laptop, phone, tablet] = &mut devices;
        laptop.post("/devices/end-others", "").await;
        assert!(laptop.page().await.contains("2 other devices are signed out."));

        for device in [phone, tablet] {
            if path != "/" {
                device.post(path, "key=AAAAAAAAAAAAAAAAAAAAAA").await;
            }
            let page = device.page().await;
            assert!(page.contains("Your session has ended"), "{path}: {page}");
            assert!(page.contains("Sign in"), "{path}: {page}");
            device.post("/login", "user=ada").await;
            assert!(!device.page().await.contains("Your session has ended"), "{path}");
        }
    }
}

#[tokio::test]
async fn remembered_login_lasts_and_the_next_one_does_not() {
    let app = app(MemoryStore::default());
    let mut device = Device::new(&app);
    for (form, is_remembered) in
        [("user=ada&remember=on", true), ("user=ada", false), ("user=bob", false)]
    {
        let response = device.post_from("same-origin", "/login", form).await;
        let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
        assert_eq!(set.contains("Max-Age=2592000"), is_remembered, "{form}: {set}");
        assert_eq!(set.contains("Max-Age"), is_remembered, "{form}: {set}");
    }
}

#[tokio::test]
async fn device_list_revokes_one_device() {
    let app = app(MemoryStore::default());
    let mut devices = [Device::new(&app), Device::new(&app)];
    for device in &mut devices {
        device.post("/login", "user=ada").await;
    }
    let [laptop, phone] = &mut devices;
    let page = laptop.page().await;
    // The list offers the sign-out of other devices only.
    let (_, rest) = page.split_once(r#"name="key" value=""#).unwrap();
    let (key, rest) = rest.split_once('"').unwrap();
    assert!(!rest.contains(r#"name="key""#));
    laptop.post("/devices/end", &format!("key={key}")).await;
    assert!(laptop.page().await.contains("That device is signed out."));
    assert!(phone.page().await.contains("Your session has ended"));
}

/// Counts the loads of a user's list of devices.
#[derive(Clone, Default)]
struct Loads(Arc<AtomicUsize>);

impl Loads {
    /// Returns the number of loads since the last call.
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl Intercept<MemoryStore> for Loads {
    async fn call(
        &self,
        store: &MemoryStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        if operation.verb() == Verb::Entries {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        operation.perform(store, now).await
    }
}

/// Signs a user in, opens the stream of the page, and reads its first list.
async fn open_page(app: &Router, user: &str) -> Body {
    let mut laptop = Device::new(app);
    laptop.post("/login", &format!("user={user}")).await;
    let request = laptop.request("/live").body(Body::empty()).unwrap();
    let mut page = laptop.send(request).await.into_body();
    let list = event(&mut page, "devices").await;
    assert_eq!((list.matches("<li>").count(), list.matches("this device").count()), (1, 1));
    page
}

/// Reads the next event with a name from a stream.
async fn event(body: &mut Body, name: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let frame =
            timeout_at(deadline, poll_fn(|context| Pin::new(&mut *body).poll_frame(context)));
        let frame = frame.await.expect("an event in time").expect("an open stream").unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        if text.starts_with(&format!("event: {name}\n")) {
            return text;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn burst_of_logins_loads_the_list_once_after_a_pause() {
    let loads = Loads::default();
    let app = app(Intercepted::new(MemoryStore::default(), loads.clone()));
    let mut page = open_page(&app, "ada").await;
    tokio::spawn(async move { while event(&mut page, "devices").await.contains("<li>") {} });
    loads.take();
    for _ in 0..20 {
        Device::new(&app).post("/login", "user=ada").await;
    }
    let instant = Duration::from_millis(1);
    sleep(MIN_PAUSE - instant).await;
    assert_eq!(loads.take(), 0, "the list was loaded shortly before");
    sleep(2 * instant).await;
    assert_eq!(loads.take(), 1);
    for _ in 0..20 {
        Device::new(&app).post("/login", "user=bob").await;
    }
    sleep(REFRESH / 2).await;
    assert_eq!(loads.take(), 0, "the list of another user changed");
}

/// The event of the user is among the lost ones.
#[tokio::test(start_paused = true)]
async fn page_that_lost_events_loads_the_list() {
    let app = app(MemoryStore::default());
    let mut page = open_page(&app, "ada").await;
    Device::new(&app).post("/login", "user=ada").await;
    for _ in 0..1_100 {
        Device::new(&app).post("/login", "user=bob").await;
    }
    let begun = Instant::now();
    assert_eq!(event(&mut page, "devices").await.matches("<li>").count(), 2);
    assert!(begun.elapsed() < REFRESH / 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn open_page_shows_devices_that_come_and_go() {
    let app = app(MemoryStore::default());
    let mut page = open_page(&app, "ada").await;
    let mut phone = Device::new(&app);

    // Without a wait for the next load of the list.
    let begun = Instant::now();
    phone.post("/login", "user=bob").await;
    phone.post("/login", "user=ada").await;
    assert_eq!(event(&mut page, "devices").await.matches("<li>").count(), 2);
    phone.post("/logout", "").await;
    assert_eq!(event(&mut page, "devices").await.matches("<li>").count(), 1);
    assert!(begun.elapsed() < REFRESH / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn open_page_shows_the_end_of_its_session() {
    let app = app(MemoryStore::default());
    let mut page = open_page(&app, "ada").await;
    let mut phone = Device::new(&app);
    phone.post("/login", "user=ada").await;
    phone.post("/devices/end-others", "").await;
    assert!(event(&mut page, "ended").await.contains("Your session has ended"));
    let end = poll_fn(|context| Pin::new(&mut page).poll_frame(context)).await;
    assert!(end.is_none(), "the stream ends");
}

#[tokio::test]
async fn visitor_gets_no_stream() {
    let app = app(MemoryStore::default());
    let mut visitor = Device::new(&app);
    // The script of the page asks by HEAD whether the session goes on.
    for method in ["GET", "HEAD"] {
        let request = visitor.request("/live").method(method).body(Body::empty()).unwrap();
        assert_eq!(visitor.send(request).await.status(), StatusCode::UNAUTHORIZED, "{method}");
    }
    visitor.post("/login", "user=ada").await;
    let request = visitor.request("/live").method("HEAD").body(Body::empty()).unwrap();
    assert_eq!(visitor.send(request).await.status(), StatusCode::OK);
}
