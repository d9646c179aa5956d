use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::kind::Programs;

/// A WebDriver server as a process, killed on drop.
pub(crate) struct DriverProcess {
    child: Child,
    port: u16,
}

impl DriverProcess {
    pub(crate) async fn start(programs: &Programs) -> Self {
        let mut child = Command::new(&programs.driver)
            .args(programs.driver_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut driver = Self { child, port: 0 };
        let (sender, port) = oneshot::channel();
        // Reads until the end: a full pipe would stop the driver.
        thread::spawn(move || {
            let mut sender = Some(sender);
            for line in output.lines().map_while(Result::ok) {
                if let Some(port) = port_in(&line)
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(port);
                }
            }
        });
        driver.port = timeout(Duration::from_secs(30), port).await.unwrap().expect("a port");
        driver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for DriverProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the line by which a driver reports its port: "… on port 41327." of `chromedriver`, "Listening
/// on 127.0.0.1:41327" of `geckodriver`.
fn port_in(line: &str) -> Option<u16> {
    let line = line.trim_end_matches('.');
    let port = line
        .split_once("successfully on port ")
        .or_else(|| line.split_once("Listening on 127.0.0.1:"))
        .map(|(_, port)| port)?;
    port.parse().ok()
}
