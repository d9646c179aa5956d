use std::time::{Duration, Instant};

/// What a visitor asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `POST /login/{owner}`, without a session.
    Login,
    /// `POST /count`, an update.
    Count,
    /// `POST /set/{name}/{value}`, under a name of its own.
    Set,
    /// `GET /session`.
    Read,
    /// `POST /logout`.
    Logout,
    /// `POST /end-others`.
    EndOthers,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Login, Self::Count, Self::Set, Self::Read, Self::Logout, Self::EndOthers];

    /// How many operations of the store it is at most, each of which may take the operation timeout: a load;
    /// a command, and its one repetition if the answer was lost. A login creates, bars and looks. An end of
    /// the others loads, reads the index, looks at the sessions and at the way that the own one came, and
    /// ends, twice if the answer was lost.
    #[must_use]
    pub fn operations(self) -> u32 {
        match self {
            Self::Read => 1,
            Self::Login | Self::Count | Self::Set | Self::Logout => 3,
            Self::EndOthers => 6,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// 200.
    Done,
    /// 503, and the cookie was left alone.
    Unavailable,
    /// No answer, from a server that was killed meanwhile.
    Unanswered,
    /// Whatever must not be.
    Wrong(String),
}

/// A request that is over.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) visitor: usize,
    pub(super) kind: Kind,
    pub(super) began_at: Instant,
    pub(super) ended_at: Instant,
    pub(super) outcome: Outcome,
}

/// Requests, counted.
#[derive(Clone, Debug)]
pub struct Tally {
    sent: [u64; Kind::ALL.len()],
    done: [u64; Kind::ALL.len()],
    slowest: [Duration; Kind::ALL.len()],
    unavailable: u64,
    unanswered: u64,
    wrong: Vec<String>,
    visitors: Vec<Spell>,
    longest_errors: Duration,
}

/// How a visitor fares.
#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    /// When the first request began of those that failed since the last success.
    failing_since: Option<Instant>,
    /// When the last request began that was a success.
    served: Option<Instant>,
}

impl Tally {
    pub(super) fn of(visitors: usize) -> Self {
        Self {
            sent: [0; Kind::ALL.len()],
            done: [0; Kind::ALL.len()],
            slowest: [Duration::ZERO; Kind::ALL.len()],
            unavailable: 0,
            unanswered: 0,
            wrong: Vec::new(),
            visitors: vec![Spell::default(); visitors],
            longest_errors: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, request: Request) {
        let kind = request.kind as usize;
        self.sent[kind] += 1;
        let took = request.ended_at - request.began_at;
        let spell = &mut self.visitors[request.visitor];
        match request.outcome {
            Outcome::Done => {
                self.done[kind] += 1;
                spell.served = Some(request.began_at);
            }
            Outcome::Unavailable => self.unavailable += 1,
            Outcome::Unanswered => self.unanswered += 1,
            Outcome::Wrong(text) => self.wrong.push(text),
        }
        self.slowest[kind] = self.slowest[kind].max(took);
        if spell.served == Some(request.began_at) {
            spell.failing_since = None;
        } else {
            let since = *spell.failing_since.get_or_insert(request.began_at);
            self.longest_errors = self.longest_errors.max(request.ended_at - since);
        }
    }

    pub(super) fn all_served_since(&self, instant: Instant) -> bool {
        self.visitors.iter().all(|spell| spell.served.is_some_and(|served| served >= instant))
    }

    /// How many requests of these kinds there were.
    #[must_use]
    pub fn sent(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().map(|kind| self.sent[*kind as usize]).sum()
    }

    /// How many of them were acknowledged.
    #[must_use]
    pub fn done(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().map(|kind| self.done[*kind as usize]).sum()
    }

    /// How many requests were answered by 503.
    #[must_use]
    pub fn unavailable(&self) -> u64 {
        self.unavailable
    }

    /// How many requests got no answer from a server that was killed meanwhile.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// What was answered that is neither a success nor a 503 that leaves the cookie alone, and what was not
    /// answered though the server lived.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// The longest time for which one visitor met nothing but errors: from when the first of the requests
    /// was sent until the last failed.
    #[must_use]
    pub fn longest_errors(&self) -> Duration {
        self.longest_errors
    }

    /// How long the longest single request took.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.slowest.into_iter().max().unwrap_or_default()
    }

    /// The requests that took longer than their operations may, each `operation`, and this much more.
    #[must_use]
    pub fn late(&self, operation: Duration, margin: Duration) -> Vec<String> {
        let late = Kind::ALL.into_iter().filter_map(|kind| {
            let (took, limit) = (self.slowest[kind as usize], kind.operations() * operation);
            (took > limit + margin)
                .then(|| format!("{kind:?} took {took:.1?}, and may take {limit:?}"))
        });
        late.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(outcomes: &[(u64, u64, Outcome)]) -> Tally {
        let start = Instant::now();
        let mut tally = Tally::of(1);
        for (began, ended, outcome) in outcomes.iter().cloned() {
            let [began_at, ended_at] = [began, ended].map(|at| start + Duration::from_millis(at));
            tally.add(Request { visitor: 0, kind: Kind::Read, began_at, ended_at, outcome });
        }
        tally
    }

    #[test]
    fn errors_last_from_the_first_to_the_last_in_a_row() {
        let outcomes = [
            (0, 10, Outcome::Unavailable),
            (20, 30, Outcome::Done),
            (40, 50, Outcome::Unavailable),
            (60, 70, Outcome::Unanswered),
            (80, 90, Outcome::Done),
            (95, 99, Outcome::Unavailable),
        ];
        let tally = tally(&outcomes);
        assert_eq!(tally.longest_errors(), Duration::from_millis(30));
        assert_eq!((tally.unavailable(), tally.unanswered()), (3, 1));
        assert_eq!((tally.sent(&Kind::ALL), tally.done(&[Kind::Read])), (6, 2));
        assert_eq!(tally.done(&[Kind::Login]), 0);
    }

    #[test]
    fn what_is_late_is_told() {
        let tally = tally(&[(0, 1_500, Outcome::Done)]);
        let late = |margin| tally.late(Duration::from_secs(1), Duration::from_millis(margin));
        assert_eq!(late(500), Vec::<String>::new());
        assert_eq!(late(499), ["Read took 1.5s, and may take 1s"]);
    }
}
