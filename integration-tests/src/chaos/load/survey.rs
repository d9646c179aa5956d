use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    account::{Account, End, Verdict},
    fleet::Doors,
};
use crate::harness::browser::Browser;

/// The acknowledged writes and ends: how many survived, and which were lost.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The number of surviving writes: logins, updates and values.
    pub kept: usize,
    /// When the lost writes had been acknowledged.
    pub lost: Vec<Instant>,
    /// The number of sessions whose end was acknowledged.
    pub ended: usize,
    /// For ended sessions that are back: when their ends had been acknowledged.
    pub back: Vec<Instant>,
    /// Like `back`, for ends that were acknowledged only after a repeated request.
    pub back_after_failure: Vec<Instant>,
    /// For existing sessions: when servers reported to their visitors that they do not exist.
    pub signed_out: Vec<Instant>,
    /// Differences that losses cannot explain.
    pub wrong: Vec<String>,
}

impl Survey {
    /// Opens each session once more, through any of the servers, and adds the results.
    pub(super) async fn and(mut self, doors: &Arc<Doors>, accounts: Vec<Account>) -> Self {
        let found = stream::iter(accounts).map(|account| async move {
            let found = open(doors, &account.id).await;
            (account, found)
        });
        let mut found = found.buffer_unordered(AT_ONCE);
        while let Some((account, found)) = found.next().await {
            self.ended += usize::from(matches!(account.end, End::Told { .. }));
            match found {
                Ok(found) => self.add(account.check(&found)),
                Err(why) => self.wrong.push(why),
            }
        }
        self
    }

    pub(super) fn add(&mut self, verdict: Verdict) {
        self.kept += verdict.kept;
        self.lost.extend(verdict.lost);
        match verdict.back {
            Some((at, false)) => self.back.push(at),
            Some((at, true)) => self.back_after_failure.push(at),
            None => {}
        }
        self.signed_out.extend(verdict.signed_out);
        self.wrong.extend(verdict.wrong);
    }

    /// Adds another survey.
    pub fn extend(&mut self, other: Self) {
        self.kept += other.kept;
        self.lost.extend(other.lost);
        self.ended += other.ended;
        self.back.extend(other.back);
        self.back_after_failure.extend(other.back_after_failure);
        self.signed_out.extend(other.signed_out);
        self.wrong.extend(other.wrong);
    }
}

/// Returns the values of a session. Repeats the request until a server answers it.
async fn open(doors: &Doors, id: &str) -> Result<Value, String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, door) = doors.choose(|servers| usize::from(id.as_bytes()[0]) % servers);
        let browser = Browser::returning(door.addr, id);
        match browser.try_send(Method::GET, "/session").await {
            Ok(answer) if answer.status == StatusCode::OK => return Ok(answer.json()),
            _ if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            Ok(answer) => return Err(format!("a session is answered by {}", answer.status)),
            Err(error) => return Err(format!("a session is not answered: {error}")),
        }
    }
}

const AT_ONCE: usize = 16;
