use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    Shared,
    account::{Account, End},
    tally::{Kind, Outcome, Request},
};
use crate::{
    harness::browser::{Answer, Browser},
    random::{Part, Random},
};

/// A visitor that repeats one loop: sign in, write and read for a while, sign out or leave.
pub(super) struct Visitor {
    shared: Arc<Shared>,
    number: usize,
    pause: Duration,
    random: Random,
}

/// A browser with a session.
struct Visit {
    browser: Browser,
    account: Account,
}

impl Visitor {
    pub(super) fn new(shared: Arc<Shared>, number: usize, pause: Duration) -> Self {
        let random = Random::of(0, Part::Visitor, number as u64);
        Self { shared, number, pause, random }
    }

    pub(super) async fn visit(mut self) {
        for life in 0.. {
            if self.is_over() {
                return;
            }
            self.live(&format!("{}-{life}", self.number)).await;
        }
    }

    async fn live(&mut self, owner: &str) {
        let Some(mut visit) = self.sign_in(owner).await else { return };
        self.browse(&mut visit, 30).await;
        match self.random.below(10) {
            // Leaves without signing out.
            0..=2 => {}
            3..=6 => self.end(&mut visit, None).await,
            // Ends the session of another device.
            _ => {
                if let Some(mut other) = self.sign_in(owner).await {
                    self.browse(&mut other, 5).await;
                    self.end(&mut visit, Some(&mut other)).await;
                    self.shared.ledger.close(other.account);
                }
            }
        }
        self.shared.ledger.close(visit.account);
    }

    /// Signs in, each time with a new browser: after a login without a response, no browser has the new
    /// ID.
    async fn sign_in(&mut self, owner: &str) -> Option<Visit> {
        while !self.is_over() {
            let browser = Browser::new(self.shared.doors.choose(|_| 0).1.addr);
            let path = format!("/login/{owner}");
            if let Reply::Done(_) = self.post(&browser, Kind::Login, &path).await {
                let id = browser.session_id().expect("a success told one, see `judge`");
                let account = Account::new(id, owner.to_owned(), Instant::now());
                return Some(Visit { browser, account });
            }
        }
        None
    }

    async fn browse(&mut self, visit: &mut Visit, most: u64) {
        for _ in 0..self.random.between(1, most) {
            if self.is_over() || visit.account.missed_at.is_some() {
                return;
            }
            match self.random.below(10) {
                0..=3 => self.count(visit).await,
                4..=7 => self.set(visit).await,
                _ => {
                    self.read(visit).await;
                }
            }
        }
    }

    async fn count(&mut self, visit: &mut Visit) {
        let reply = self.post(&visit.browser, Kind::Count, "/count").await;
        match visit.note(reply) {
            Some(at) => visit.account.counts.push(at),
            None => visit.account.maybe_counts += 1,
        }
    }

    async fn set(&mut self, visit: &mut Visit) {
        let number = visit.account.sets.len();
        let path = format!("/set/{}/{number}", Account::name(number));
        let reply = self.post(&visit.browser, Kind::Set, &path).await;
        let acknowledged = visit.note(reply);
        visit.account.sets.push(acknowledged);
    }

    async fn read(&mut self, visit: &mut Visit) -> Option<Value> {
        let reply = self.ask(&visit.browser, Kind::Read, Method::GET, "/session").await;
        let Reply::Done(answer) = reply else { return None };
        let found = answer.json();
        if found["owner"] != visit.account.owner.as_str() {
            visit.account.missed_at = Some(Instant::now());
        }
        Some(found)
    }

    /// Ends the session, or another device's session through it. Repeats the request for a while if no
    /// acknowledgement arrives.
    async fn end(&mut self, visit: &mut Visit, mut other: Option<&mut Visit>) {
        let deadline = Instant::now() + ASKS_FOR;
        // Reads the values now, because they are gone after the end.
        let ends = other.as_deref_mut().unwrap_or(visit);
        let mut seen = None;
        while seen.is_none() {
            if self.is_over() || ends.account.missed_at.is_some() || Instant::now() > deadline {
                return;
            }
            seen = self.read(ends).await.map(|found| ends.account.check(&found));
        }
        while !self.is_over() && Instant::now() < deadline {
            let acknowledged = if other.is_some() {
                let reply = self.post(&visit.browser, Kind::EndOthers, "/end-others").await;
                // An earlier attempt ended the session, or the store has lost the session of this
                // browser, so that the request had no user.
                let ended_none = matches!(&reply, Reply::Done(answer) if answer.body == "0");
                if ended_none && self.read(visit).await.is_none() {
                    continue;
                }
                visit.note(reply)
            } else {
                let reply = self.post(&visit.browser, Kind::Logout, "/logout").await;
                matches!(reply, Reply::Done(_)).then(Instant::now)
            };
            if visit.account.missed_at.is_some() {
                return;
            }
            let ends = &mut other.as_deref_mut().unwrap_or(visit).account;
            let Some(at) = acknowledged else {
                ends.end = End::Asked;
                continue;
            };
            ends.end = End::Told { at, is_repeated: ends.end == End::Asked };
            // For a session without an acknowledged end, the survey reads the values later.
            seen.take().into_iter().for_each(|verdict| self.shared.ledger.found(verdict));
            return;
        }
    }

    async fn post(&mut self, browser: &Browser, kind: Kind, path: &str) -> Reply {
        self.ask(browser, kind, Method::POST, path).await
    }

    /// Sends a request to one of the servers after a pause, and records the outcome.
    async fn ask(&mut self, browser: &Browser, kind: Kind, method: Method, path: &str) -> Reply {
        sleep(self.pause.mul_f64(self.random.below(2_000) as f64 / 1_000.0)).await;
        let (server, door) = self.shared.doors.choose(|servers| self.random.index(servers));
        let began_at = Instant::now();
        let answer = browser.at(door.addr).try_send(method, path).await;
        let ended_at = Instant::now();
        let (outcome, reply) = match answer {
            Ok(answer) => judge(kind, answer, browser),
            Err(_) if self.shared.doors.was_closed(server, door) => {
                (Outcome::Unanswered, Reply::Unknown)
            }
            Err(error) => {
                (Outcome::Wrong(format!("{kind:?} got no answer: {error:?}")), Reply::Unknown)
            }
        };
        let visitor = self.number;
        self.shared.ledger.note(Request { visitor, kind, began_at, ended_at, outcome });
        reply
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
    }
}

/// The visitor's knowledge after a request.
enum Reply {
    Done(Answer),
    /// The session no longer exists.
    Gone,
    Unknown,
}

impl Visit {
    /// Returns the time of the acknowledgement. Also records a missing session: the server then removes
    /// or replaces the cookie, or returns 409 if the session ended during the request.
    fn note(&mut self, reply: Reply) -> Option<Instant> {
        let is_known = self.browser.session_id().as_deref() == Some(&self.account.id);
        if !is_known || matches!(reply, Reply::Gone) {
            self.account.missed_at = Some(Instant::now());
        }
        (is_known && matches!(reply, Reply::Done(_))).then(Instant::now)
    }
}

fn judge(kind: Kind, answer: Answer, browser: &Browser) -> (Outcome, Reply) {
    match answer.status {
        StatusCode::OK if kind == Kind::Login && browser.session_id().is_none() => {
            (Outcome::Wrong("a login told no session ID".to_owned()), Reply::Unknown)
        }
        StatusCode::OK => (Outcome::Done, Reply::Done(answer)),
        StatusCode::SERVICE_UNAVAILABLE if answer.set_cookie().is_none() => {
            (Outcome::Unavailable, Reply::Unknown)
        }
        // A success for the tally; the survey decides whether the session may have ended.
        StatusCode::CONFLICT => (Outcome::Done, Reply::Gone),
        status => {
            let text = format!("{kind:?} was answered by {status}: {}", answer.body);
            (Outcome::Wrong(text), Reply::Unknown)
        }
    }
}

/// The time for which a visitor repeats the request to end a session.
const ASKS_FOR: Duration = Duration::from_secs(3);
