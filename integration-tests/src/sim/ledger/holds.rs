//! The locks of sessions, and the commits under them.

use session_core::SessionError;

use super::{Ledger, call::Attempt, life::Step, request::Hold};

/// A lock with an acknowledged commit. Between these two steps, no other request may have held the lock.
#[derive(Debug)]
pub(crate) struct Held {
    by: usize,
    life: usize,
    from: Step,
    to: Step,
}

impl Ledger {
    /// Records that a request asks for the lock of its session. The commits of the lock itself store
    /// none of the recorded changes.
    pub(crate) fn locking(&mut self, number: usize) {
        self.say(|_| format!("request {number} asks for the lock"));
        let step = self.step;
        let request = self.request(number);
        let (at, life, seen_at) = (request.settled, request.life, request.seen_at);
        request.is_committing = true;
        request.attempt = Some(Attempt {
            from: at,
            to: at,
            step,
            locks: true,
            life,
            seen_at,
            ..Attempt::default()
        });
    }

    /// Records whether the request acquired the lock, and whether the lock has a lease.
    pub(crate) fn locked(&mut self, number: usize, result: Result<bool, &SessionError>) {
        match result {
            Ok(leased) => {
                self.say(|_| format!("request {number} has the lock"));
                let from = self.step;
                let request = self.request(number);
                request.is_committing = false;
                if leased {
                    request.stored_at = request.attempt.map(|attempt| attempt.step);
                }
                let life = request.life.filter(|_| leased);
                if life.is_some() {
                    // The earlier changes are applied again, to the session as the lock found it. A
                    // change that had no effect before may now have an effect.
                    let settled = request.settled;
                    request.log[settled..].iter_mut().for_each(|logged| logged.effective = true);
                }
                request.hold = life.map(|life| Hold { life, from, stored: None });
                self.counters.locks += u64::from(leased);
            }
            Err(SessionError::Locked) => {
                self.say(|_| format!("request {number} finds the session locked"));
                self.counters.locks_refused += 1;
            }
            Err(error) => {
                let attempt = self.request(number).attempt.expect("it asked");
                self.failed(number, attempt, error);
            }
        }
    }

    /// Records that a request releases its lock.
    pub(crate) fn unlocked(&mut self, number: usize) {
        self.request(number).hold = None;
    }

    /// Records that the changes of a request took effect.
    pub(super) fn stored_under_lock(&mut self, number: usize, life: usize) {
        let step = self.step;
        if let Some(hold) = self.request(number).hold.as_mut().filter(|hold| hold.life == life) {
            hold.stored = Some(step);
        }
    }

    /// Checks that requests with acknowledged commits under the lock of a session held the lock one
    /// after the other.
    pub(super) fn acknowledged_under_lock(&mut self, number: usize) {
        let Some(Hold { life, from, stored: Some(to) }) = self.request(number).hold else { return };
        let overlap = self.holds.iter().any(|other| {
            other.by != number && other.life == life && other.from < to && from < other.to
        });
        if overlap {
            self.violate("I6", || "two requests worked under one lock, and both counted".into());
        }
        self.counters.locked_commits += 1;
        self.holds.push(Held { by: number, life, from, to });
    }
}
