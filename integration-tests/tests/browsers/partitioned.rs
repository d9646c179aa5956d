use session_axum::{MemoryStore, SameSite, SessionCookie};

use crate::{
    browser::Profile,
    shop::{page, shop},
    site::{BLOG, SHOP, Site, WIDGET},
};

/// An application inside of other sites' frames, in a browser that blocks third-party cookies.
pub(crate) async fn frame_has_a_session_per_embedding_site(profile: Profile) {
    let embedded = SessionCookie::default().with_same_site(SameSite::None).unwrap();
    let partitioned = embedded.with_partitioned().unwrap();
    let widget = Site::serve(shop(MemoryStore::default(), partitioned)).await;
    let around = Site::serve(page(frame(&widget))).await;
    let lax = Site::serve(shop(MemoryStore::default(), SessionCookie::default())).await;
    let around_lax = Site::serve(page(frame(&lax))).await;
    let browser = profile.open().await;

    for (site, visit) in [(SHOP, 1), (SHOP, 2), (BLOG, 1), (SHOP, 3), (BLOG, 2)] {
        browser.goto(around.url(site, "/")).await;
        browser.enter_frame().await;
        browser.until_text(&format!("visit {visit}")).await;
        browser.leave_frame().await;
    }
    // The application itself, outside of a frame.
    browser.goto(widget.url(WIDGET, "/visit")).await;
    browser.until_text("visit 1").await;

    // The default cookie does not work there.
    for _ in 0..2 {
        browser.goto(around_lax.url(SHOP, "/")).await;
        browser.enter_frame().await;
        browser.until_text("visit 1").await;
        browser.leave_frame().await;
    }
}

fn frame(site: &Site) -> String {
    format!("<iframe src='{}'></iframe>", site.url(WIDGET, "/visit"))
}
