//! Faults of servers, clients and the clock.

use std::time::Duration;

use session_core::{Clock as _, Timestamp};

use super::{History, NOBODY, Running, restarted};

impl History<'_> {
    pub(super) fn go_away(&mut self, number: usize) {
        if let Some(running) = self.running.remove(&number) {
            self.world.ledger().counters.requests_dropped += 1;
            self.world.ledger().say(|_| format!("the client of request {number} goes away"));
            self.abandon(number, running);
        }
    }

    pub(super) fn crash(&mut self, at: usize) {
        let server = self.plan.crashes[at].server;
        let numbers: Vec<_> = self.running.iter().filter(|(_, r)| r.server == server).collect();
        let numbers: Vec<_> = numbers.into_iter().map(|(number, _)| *number).collect();
        self.world.ledger().counters.crashes += u64::from(!numbers.is_empty());
        self.world.ledger().say(|_| format!("server {server} stops, and starts again"));
        self.servers[server] = restarted(self.plan, &self.world);
        // A process stops as a whole, so none of its requests sees the end of another one.
        let mut stopped = Vec::new();
        for number in numbers {
            if let Some(running) = self.running.remove(&number) {
                stopped.push((number, running));
            }
        }
        self.waiting.retain(|waiting| stopped.iter().all(|(number, _)| number != waiting));
        for (number, running) in stopped {
            self.abandon(number, running);
        }
    }

    fn abandon(&mut self, number: usize, running: Running) {
        let client = running.client;
        drop(running);
        self.waiting.retain(|waiting| *waiting != number);
        self.world.ledger().drop_request(number);
        if client != NOBODY {
            self.begin_next(client, 10);
        }
        // Locks inside the dropped requests are free now.
        self.poll(NOBODY);
    }

    pub(super) fn move_clock(&mut self, at: usize) {
        let by = self.plan.clock_moves[at].by_ms;
        let now = self.clock.now();
        let span = by.unsigned_abs();
        let mut ledger = self.world.ledger();
        if by < 0 {
            ledger.counters.clock_jumps_back += 1;
            self.clock.set(Timestamp::from_millis(now.as_millis() - span));
        } else {
            ledger.counters.clock_moves += 1;
            self.clock.advance(Duration::from_millis(span));
        }
        ledger.clock_moved();
        ledger.say(|_| format!("the clock moves by {by} ms"));
    }
}
