use std::time::{Duration, Instant};

/// The kinds of requests of a visitor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `POST /login/{owner}`, without a session.
    Login,
    /// `POST /count`, an update.
    Count,
    /// `POST /set/{name}/{value}`, each time with a new name.
    Set,
    /// `GET /session`.
    Read,
    /// `POST /logout`.
    Logout,
    /// `POST /end-others`.
    EndOthers,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Login, Self::Count, Self::Set, Self::Read, Self::Logout, Self::EndOthers];

    /// Returns the maximum number of store operations, each of which may take the operation timeout. A
    /// read loads the session. A write loads and commits, and commits again if the reply was lost. A
    /// login creates a record; if the reply is lost, it blocks the key and loads the record. `EndOthers`
    /// loads its own session twice, and once more if that was renewed in between. It then reads the
    /// index, and deletes, twice if the reply was lost.
    #[must_use]
    pub fn operations(self) -> u32 {
        match self {
            Self::Read => 1,
            Self::Login | Self::Count | Self::Set | Self::Logout => 3,
            Self::EndOthers => 6,
        }
    }
}

/// The outcome of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// 200.
    Done,
    /// 503, without `Set-Cookie`.
    Unavailable,
    /// The server was killed before its response.
    Unanswered,
    /// Any other result, which must never occur.
    Wrong(String),
}

/// A completed request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) visitor: usize,
    pub(super) kind: Kind,
    pub(super) began_at: Instant,
    pub(super) ended_at: Instant,
    pub(super) outcome: Outcome,
}

/// The number of requests, by kind and outcome.
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

/// The recent outcomes of one visitor.
#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    /// When the first failed request since the last success began.
    failing_since: Option<Instant>,
    /// When the last successful request began.
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

    /// Returns the number of requests of these kinds.
    #[must_use]
    pub fn sent(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().map(|kind| self.sent[*kind as usize]).sum()
    }

    /// Returns the number of acknowledged requests of these kinds.
    #[must_use]
    pub fn done(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().map(|kind| self.done[*kind as usize]).sum()
    }

    /// Returns the number of requests with status 503.
    #[must_use]
    pub fn unavailable(&self) -> u64 {
        self.unavailable
    }

    /// Returns the number of requests to a killed server that got no response.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Returns the wrong results: any response other than a success or a 503 without `Set-Cookie`, or a
    /// missing response of a running server.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Returns the longest time in which one visitor received only errors: from the start of the first
    /// failed request to the end of the last one.
    #[must_use]
    pub fn longest_errors(&self) -> Duration {
        self.longest_errors
    }

    /// Returns the duration of the longest request.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.slowest.into_iter().max().unwrap_or_default()
    }

    /// Returns the kinds of requests that took longer than `operation` for each of their operations,
    /// plus the margin.
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
