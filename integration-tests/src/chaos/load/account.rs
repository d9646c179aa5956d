use std::time::Instant;

use serde_json::Value;

/// The acknowledgements that a visitor received for a session, from the login on.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) owner: String,
    /// When the login was acknowledged.
    pub(super) signed_in_at: Instant,
    /// When each value was acknowledged, or `None` for a value without acknowledgement. Every value has
    /// a distinct name.
    pub(super) sets: Vec<Option<Instant>>,
    /// When each counted update was acknowledged.
    pub(super) counts: Vec<Instant>,
    /// The number of updates without acknowledgement, which may have counted all the same.
    pub(super) maybe_counts: u64,
    pub(super) end: End,
    /// When a server reported that the session does not exist.
    pub(super) missed_at: Option<Instant>,
}

/// The visitor's knowledge of the session's end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The visitor has not requested it.
    None,
    /// The visitor has requested it, without an acknowledgement so far.
    Asked,
    /// A server acknowledged it, perhaps only after a repeated request.
    Told { at: Instant, is_repeated: bool },
}

impl Account {
    pub(super) fn new(id: String, owner: String, signed_in_at: Instant) -> Self {
        Self {
            id,
            owner,
            signed_in_at,
            sets: Vec::new(),
            counts: Vec::new(),
            maybe_counts: 0,
            end: End::None,
            missed_at: None,
        }
    }

    /// Returns the name of a value by its number.
    pub(super) fn name(number: usize) -> String {
        format!("own-{number}")
    }

    /// Compares the response of `GET /session` with the acknowledgements of the visitor.
    pub(super) fn check(&self, found: &Value) -> Verdict {
        let is_there = found["owner"] == self.owner.as_str();
        let mut verdict = Verdict::default();
        match self.end {
            End::Told { at, is_repeated } if is_there => verdict.back = Some((at, is_repeated)),
            End::Told { .. } => {}
            End::Asked if !is_there => {}
            End::None | End::Asked => self.check_values(is_there, &found["values"], &mut verdict),
        }
        if !is_there && (!found["owner"].is_null() || found["values"] != serde_json::json!({})) {
            verdict.wrong = Some(format!("the session of {} is another one: {found}", self.owner));
        }
        verdict
    }

    fn check_values(&self, is_there: bool, values: &Value, verdict: &mut Verdict) {
        let mut note = |acknowledged_at: Instant, is_found: bool| {
            if is_found {
                verdict.kept += 1;
            } else {
                verdict.lost.push(acknowledged_at);
            }
        };
        note(self.signed_in_at, is_there);
        for (number, acknowledged) in self.sets.iter().enumerate() {
            if let Some(at) = acknowledged {
                let value = values[Self::name(number)].as_str();
                note(*at, value == Some(number.to_string().as_str()));
            }
        }
        let counted = values["count"].as_u64().unwrap_or_default();
        for (number, at) in self.counts.iter().enumerate() {
            note(*at, (number as u64) < counted);
        }
        if counted > self.counts.len() as u64 + self.maybe_counts {
            verdict.wrong = Some(format!(
                "{} counts {counted}, of {} acknowledged and {} unknown updates",
                self.owner,
                self.counts.len(),
                self.maybe_counts
            ));
        }
        verdict.signed_out = self.missed_at.filter(|_| is_there);
    }
}

/// The fate of the acknowledged writes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Verdict {
    /// The number of writes that survived.
    pub(super) kept: usize,
    /// When the lost writes had been acknowledged.
    pub(super) lost: Vec<Instant>,
    /// For an ended session that is back: when its end was acknowledged, and `true` if the request was a
    /// repetition.
    pub(super) back: Option<(Instant, bool)>,
    /// For an existing session: when a server reported that it does not exist.
    pub(super) signed_out: Option<Instant>,
    /// A difference that a loss cannot explain.
    pub(super) wrong: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn account() -> Account {
        let now = Instant::now();
        let mut account = Account::new("id".to_owned(), "ada".to_owned(), now);
        account.sets = vec![Some(now), None, Some(now)];
        account.counts = vec![now, now];
        account.maybe_counts = 1;
        account
    }

    fn check(account: &Account, owner: Option<&str>, values: Value) -> Verdict {
        account.check(&json!({ "key": "k", "owner": owner, "values": values }))
    }

    #[test]
    fn what_was_acknowledged_is_looked_for() {
        let all = json!({ "own-0": "0", "own-2": "2", "count": 2 });
        let verdict = check(&account(), Some("ada"), all);
        assert_eq!((verdict.kept, verdict.lost.len(), verdict.wrong), (5, 0, None));
        let some = json!({ "own-1": "1", "own-2": "0", "count": 1 });
        let verdict = check(&account(), Some("ada"), some);
        assert_eq!((verdict.kept, verdict.lost.len(), verdict.wrong), (2, 3, None));
        let verdict = check(&account(), None, json!({}));
        assert_eq!((verdict.kept, verdict.lost.len(), verdict.wrong), (0, 5, None));
    }

    #[test]
    fn what_nobody_asked_for_is_no_loss() {
        let count = |count: u64| json!({ "own-0": "0", "own-2": "2", "count": count });
        assert_eq!(check(&account(), Some("ada"), count(3)).wrong, None);
        assert!(check(&account(), Some("ada"), count(4)).wrong.is_some(), "counted twice");
        assert!(check(&account(), Some("eve"), json!({})).wrong.is_some());
        assert!(check(&account(), None, count(2)).wrong.is_some(), "values without an owner");
        let missed = Account { missed_at: Some(Instant::now()), ..account() };
        assert!(check(&missed, Some("ada"), count(2)).signed_out.is_some());
        assert_eq!(check(&missed, None, json!({})).signed_out, None, "a login that is lost");
    }

    #[test]
    fn what_was_ended_is_not_back() {
        let all = || json!({ "own-0": "0", "own-2": "2", "count": 2 });
        let told =
            Account { end: End::Told { at: Instant::now(), is_repeated: true }, ..account() };
        assert_eq!(check(&told, None, json!({})), Verdict::default());
        assert!(check(&told, Some("ada"), all()).back.is_some_and(|(_, is_repeated)| is_repeated));
        let asked = Account { end: End::Asked, ..account() };
        assert_eq!(check(&asked, None, json!({})), Verdict::default());
        assert_eq!(check(&asked, Some("ada"), all()).kept, 5);
    }
}
