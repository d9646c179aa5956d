//! Calls of the store: sending, application, answer.

use session_core::{Clock as _, Entry, Sessions, StoreError, StoreErrorKind, testing::Verb};

use super::{Event, History, LOOKS};
use crate::sim::{
    fate::{Fate, Kind},
    ledger::Call,
};

impl History<'_> {
    pub(super) fn send(&mut self, call: Call) {
        let calm = call.request >= LOOKS
            || self
                .plan
                .clients
                .iter()
                .flat_map(|client| &client.requests)
                .any(|request| request.number == call.request && request.calm);
        let fate = Fate::draw(self.plan, &call, calm);
        if fate.kind != Kind::Fine {
            self.faults.push((call.request, call.ordinal));
            fate.kind.count(&mut self.world.ledger().counters);
            self.world.ledger().say(|names| {
                let key = names.of_all(&call.keys());
                let (verb, fate) = (call.name(), fate.kind.text());
                format!("request {}: its {verb} of {key} {fate}", call.request)
            });
        }
        let number = call.number;
        if let Some(after) = fate.applied_after {
            self.schedule(after, Event::Apply { call: number, again: false });
        }
        if let Some(after) = fate.applied_again_after {
            self.schedule(after, Event::Apply { call: number, again: true });
        }
        self.schedule(fate.answered_after, Event::Answer { call: number });
        debug_assert_eq!(number, self.calls.len());
        self.calls.push((call, Some(fate), None));
    }

    pub(super) async fn apply(&mut self, number: usize, again: bool) -> Result<(), StoreError> {
        let call = self.calls[number].0.clone();
        if self.comes_too_late(number) {
            if let Some(fate) = &mut self.calls[number].1 {
                fate.error.get_or_insert(StoreErrorKind::Timeout);
            }
            self.world.ledger().say(|_| {
                format!("request {}: its {} is lost after all", call.request, call.name())
            });
            return Ok(());
        }
        let moves = self.world.ledger().moves_a_session(call.request);
        let (answer, held) = self.shop.carry_out(&call, moves).await?;
        let keys = call.keys();
        let mut after = Vec::with_capacity(keys.len());
        for key in keys {
            after.push((key, self.shop.look(&key).await?));
        }
        self.world.ledger().applied(&call, &answer, after);
        let listed = self.world.ledger().listed_after(&call);
        for (index, key, until) in listed {
            if !self.shop.holds(&index, &key, until).await? {
                self.world.ledger().missing(key);
            }
        }
        if !again {
            self.calls[number].2 = Some(answer);
        }
        if let Some(held) = held {
            self.schedule(5, Event::Apply { call: held.number, again: true });
        }
        Ok(())
    }

    /// Returns `true` if a creation has been in transit for about as long as a key stays blocked, since
    /// no connection waits that long. The clock may have jumped back a little before the key was
    /// blocked.
    fn comes_too_late(&self, number: usize) -> bool {
        let (call, ..) = &self.calls[number];
        matches!(call.entry(), Some(Entry::Session(_)))
            && matches!(call.verb(), Verb::Create | Verb::CreateEntered)
            && self.clock.now().since(call.now) >= Sessions::ROTATION_WINDOW * 4 / 5
    }

    pub(super) fn answer(&mut self, number: usize) {
        let (call, fate, answer) = &mut self.calls[number];
        let fate = fate.expect("it was drawn");
        let request = call.request;
        let answer = match fate.error {
            Some(kind) => {
                self.world.ledger().call_failed(call);
                Err(kind)
            }
            None => Ok(answer.take().expect("it was carried out before it is answered")),
        };
        if let Err(kind) = &answer {
            let text = if *kind == StoreErrorKind::Timeout { "no answer" } else { "unavailable" };
            let (verb, keys) = (call.name(), call.keys());
            self.world
                .ledger()
                .say(|names| format!("request {request}: {verb} {}: {text}", names.of_all(&keys)));
        }
        self.world.answer(number, answer);
        self.poll(request);
    }
}
