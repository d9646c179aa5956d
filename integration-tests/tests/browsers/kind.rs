use std::{
    env,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    browser::Look,
    site::{HOSTS, certificate_pin},
};

/// A kind of browser.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Chromium,
    Firefox,
}

/// A browser of this machine, and its driver.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) kind: Kind,
    browser: PathBuf,
    pub(crate) driver: PathBuf,
}

impl Kind {
    /// Searches the `PATH`. The error names the missing program.
    pub(crate) fn find(self) -> Result<Programs, String> {
        let (browsers, driver): (&[_], _) = match self {
            Self::Chromium => (&["chromium", "chromium-browser", "google-chrome"], "chromedriver"),
            Self::Firefox => (&["firefox-esr", "firefox"], "geckodriver"),
        };
        let browser = browsers.iter().find_map(|name| find_program(name));
        Ok(Programs {
            kind: self,
            browser: browser.ok_or_else(|| format!("{} is missing", browsers[0]))?,
            driver: find_program(driver).ok_or_else(|| format!("{driver} is missing"))?,
        })
    }
}

impl Programs {
    /// Returns the arguments with which the driver listens on a free port.
    pub(crate) fn driver_args(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Chromium => &["--port=0"],
            Kind::Firefox => &["--port", "0", "--websocket-port", "0"],
        }
    }

    /// Returns the capabilities of a browser without a window, which trusts the certificate of
    /// [`Site`](crate::site::Site), finds [`HOSTS`] on this machine, and asks no other name server.
    pub(crate) fn capabilities(&self, profile: &Path, look: Look) -> Value {
        match self.kind {
            Kind::Chromium => self.chromium(profile, look),
            Kind::Firefox => self.firefox(profile, look),
        }
    }

    fn chromium(&self, profile: &Path, look: Look) -> Value {
        let names = HOSTS.map(|host| format!("MAP {host} 127.0.0.1")).join(", ");
        json!({
            "browserName": "chrome",
            "goog:chromeOptions": {
                "binary": self.browser,
                "args": [
                    "--headless=new",
                    // The sandbox refuses to run as root.
                    "--no-sandbox",
                    "--disable-dev-shm-usage",
                    "--no-proxy-server",
                    "--password-store=basic",
                    format!("--user-data-dir={}", profile.display()),
                    format!("--host-resolver-rules={names}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
                    format!("--ignore-certificate-errors-spki-list={}", certificate_pin()),
                    format!("--window-size={},{}", look.width, look.height),
                ],
                // Third-party cookies, but for partitioned ones, are blocked.
                "prefs": { "profile.cookie_controls_mode": 1 },
            },
        })
    }

    fn firefox(&self, profile: &Path, look: Look) -> Value {
        json!({
            "browserName": "firefox",
            "acceptInsecureCerts": true,
            "moz:firefoxOptions": {
                "binary": self.browser,
                "args": ["-headless", "-profile", profile],
                "prefs": {
                    "network.proxy.type": 0,
                    "network.dns.localDomains": HOSTS.join(","),
                    "layout.css.prefers-color-scheme.content-override": if look.is_dark { 0 } else { 1 },
                },
            },
        })
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
