use std::time::Duration;

use integration_tests::until;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{
    By, Capabilities, Cookie, TypingData, WebDriver, WindowHandle, error::WebDriverResult,
};
use tokio::time::sleep;

use crate::{
    driver::DriverProcess,
    kind::{Kind, Programs},
};

/// A user's browser data: a folder that outlives the browser.
pub(crate) struct Profile {
    programs: Programs,
    folder: TempDir,
    look: Look,
}

/// The size of the page and the colors that the user prefers.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) is_dark: bool,
}

impl Profile {
    pub(crate) fn new(programs: Programs) -> Self {
        let folder = TempDir::with_prefix("browser-").unwrap();
        Self { programs, folder, look: Look { width: 1000, height: 800, is_dark: false } }
    }

    /// Returns the profile of another user, or of another device.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.programs.clone())
    }

    pub(crate) fn with_look(mut self, look: Look) -> Self {
        self.look = look;
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.programs.kind
    }

    /// Starts a browser with this data.
    pub(crate) async fn open(&self) -> Browser {
        let process = DriverProcess::start(&self.programs).await;
        let wanted = self.programs.capabilities(self.folder.path(), self.look);
        let mut capabilities = Capabilities::new();
        for (name, value) in wanted.as_object().unwrap() {
            capabilities.set(name.as_str(), value).unwrap();
        }
        let client =
            reqwest::Client::builder().no_proxy().timeout(LONGEST_COMMAND).build().unwrap();
        let driver =
            WebDriver::builder(process.url(), capabilities).client(client).connect().await.unwrap();
        let browser = Browser { driver, kind: self.kind(), _process: process };
        browser.look_as(self.look).await;
        browser
    }
}

/// A running browser. It ends on drop, as if the user closed it.
pub(crate) struct Browser {
    // Ends the browser on drop, while the process still runs.
    driver: WebDriver,
    kind: Kind,
    _process: DriverProcess,
}

impl Browser {
    pub(crate) async fn goto(&self, url: impl Into<String>) {
        self.driver.goto(url.into()).await.unwrap();
    }

    /// Goes back in the history, and waits until the page is there.
    pub(crate) async fn back(&self) {
        self.driver.back().await.unwrap();
        self.settle().await;
    }

    pub(crate) async fn url(&self) -> String {
        self.driver.current_url().await.unwrap().to_string()
    }

    pub(crate) async fn reload(&self) {
        self.driver.refresh().await.unwrap();
    }

    /// Waits until the document is complete.
    async fn settle(&self) {
        until("a complete page", async || {
            self.js("return document.readyState").await == json!("complete")
        })
        .await;
    }

    /// Returns the text that a user sees.
    pub(crate) async fn text(&self) -> String {
        self.js("return document.body?.innerText ?? ''").await.as_str().unwrap_or_default().into()
    }

    /// Waits until the page shows a text.
    pub(crate) async fn until_text(&self, text: &str) {
        self.until(&format!("the page shows `{text}`"), async || self.text().await.contains(text))
            .await;
    }

    /// Waits until a condition holds. A failure shows the page.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..600 {
            if holds().await {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "{:?}: not within half a minute: {what}; the page: {}",
            self.kind,
            self.text().await
        );
    }

    /// Runs a script in the page. Returns null if the page goes away meanwhile.
    pub(crate) async fn js(&self, script: &str) -> Value {
        self.js_with(script, []).await
    }

    /// Like [`js`](Self::js), with arguments.
    pub(crate) async fn js_with<const N: usize>(&self, script: &str, args: [Value; N]) -> Value {
        match self.driver.execute(script, args.to_vec()).await {
            Ok(answer) => answer.json().clone(),
            Err(_) => Value::Null,
        }
    }

    /// Clicks an element as a user does: it must be visible.
    pub(crate) async fn click(&self, selector: &str) {
        self.until(&format!("a click on `{selector}`"), async || {
            self.try_click(selector).await.is_ok()
        })
        .await;
    }

    async fn try_click(&self, selector: &str) -> WebDriverResult<()> {
        self.driver.find(By::Css(selector)).await?.click().await
    }

    /// Types into an element.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        self.driver.find(By::Css(selector)).await.unwrap().send_keys(text).await.unwrap();
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: impl Into<TypingData>) {
        self.driver.action_chain().send_keys(keys).perform().await.unwrap();
    }

    /// Returns a cookie of the current page, as WebDriver's "Get Named Cookie" returns it.
    pub(crate) async fn cookie(&self, name: &str) -> Option<Cookie> {
        self.driver.get_named_cookie(name.to_owned()).await.ok()
    }

    /// Opens a tab, and continues in it.
    pub(crate) async fn new_tab(&self) -> WindowHandle {
        let tab = self.driver.new_tab().await.unwrap();
        self.show(&tab).await;
        tab
    }

    pub(crate) async fn current_tab(&self) -> WindowHandle {
        self.driver.window().await.unwrap()
    }

    /// Continues in another tab.
    pub(crate) async fn show(&self, tab: &WindowHandle) {
        self.driver.switch_to_window(tab.clone()).await.unwrap();
    }

    /// Continues inside of the only frame of the page.
    pub(crate) async fn enter_frame(&self) {
        self.until("a frame", async || self.driver.enter_frame(0).await.is_ok()).await;
    }

    pub(crate) async fn leave_frame(&self) {
        self.driver.enter_default_frame().await.unwrap();
    }

    /// Returns a picture of the visible part of the page, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        self.driver.screenshot_as_png().await.unwrap()
    }

    async fn look_as(&self, look: Look) {
        match self.kind {
            Kind::Chromium => {
                let cdp = self.driver.cdp();
                let size = json!({
                    "width": look.width,
                    "height": look.height,
                    "deviceScaleFactor": 1,
                    "mobile": false,
                });
                cdp.send_raw("Emulation.setDeviceMetricsOverride", size).await.unwrap();
                let scheme = if look.is_dark { "dark" } else { "light" };
                let media =
                    json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                cdp.send_raw("Emulation.setEmulatedMedia", media).await.unwrap();
            }
            // The colors are among the preferences of the profile.
            Kind::Firefox if look.width >= NARROWEST_WINDOW => {
                self.driver.set_window_rect(0, 0, look.width, look.height).await.unwrap();
            }
            Kind::Firefox => {
                let size = format!("popup,width={},height={}", look.width, look.height);
                self.js_with("window.open('about:blank', '_blank', arguments[0])", [json!(size)])
                    .await;
                let window = self.driver.windows().await.unwrap().pop().unwrap();
                self.show(&window).await;
            }
        }
    }
}

/// The smallest width of a window with tabs in Firefox. A window that a page opened can be narrower.
const NARROWEST_WINDOW: u32 = 500;

/// A driver may wait without a limit, for example for a tab of a window that can have none.
const LONGEST_COMMAND: Duration = Duration::from_secs(120);
