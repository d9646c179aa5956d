use std::fmt;

/// Declares each counter once, with its text.
macro_rules! counters {
    ($($name:ident: $text:literal,)+) => {
        /// The number of times that each event occurred. A check proves nothing if its event never
        /// occurs.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub struct Counters {
            $(#[doc = $text] pub $name: u64,)+
        }

        impl Counters {
            /// Returns every counter with its text.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$(($text, self.$name),)+]
            }

            /// Adds the counters of another history.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counters! {
    requests: "requests",
    store_calls: "store calls",
    acknowledged: "requests answered with success",
    failed: "requests answered with an error",
    commits: "commits that took effect",
    creations: "sessions created",
    conflicts: "conflicts with another request's commit",
    own_commits_met: "retries that met their own commit",
    own_creations_met: "retries that met their own creation",
    logins: "logins of a stored session",
    renewals: "renewals of an ID",
    tombstones_met: "commits that met a tombstone",
    tombstones_ended: "ends that met a tombstone",
    grace_openings: "sessions opened by a former ID within its grace",
    grace_refusals: "former IDs refused after their grace",
    login_refusals: "former IDs refused after a login",
    merged_into_logins: "commits merged into a login by another request",
    ends: "sessions ended on request",
    revocations: "sessions ended from elsewhere",
    revocations_moved: "ends from elsewhere that met a tombstone",
    keys_blocked: "keys blocked for a creation under way",
    creations_blocked: "keys blocked after a creation without an answer",
    rotations: "rotations of an ID",
    impersonations: "impersonations started",
    impersonations_stopped: "impersonations stopped by the actor",
    impersonations_ended: "impersonations ended from elsewhere",
    links: "links without a login",
    joined_logins: "logins that joined another login of the same user",
    limits_met: "logins that met the limit",
    logins_refused: "logins refused at the limit",
    evictions: "sessions ended to make room",
    locks: "locks taken",
    locks_refused: "locks refused because another request had them",
    locked_commits: "commits acknowledged under a lock",
    leases_lost: "commits refused after the lock was lost",
    lists: "lists of an owner's sessions",
    listed: "sessions listed",
    end_refusals: "IDs of ended sessions refused",
    ended_errors: "requests told that their session has ended",
    expiries: "sessions found expired",
    touches: "touches",
    cookies_replaced: "cookies of a live session replaced or removed",
    made_up_refusals: "made-up IDs refused",
    contended: "requests that lost their patience",
    unconfirmed: "commits refused after one without an answer",
    waits: "waits for another request of the same server",
    failed_before: "calls that failed before they were applied",
    failed_after: "calls applied without an answer",
    never_applied: "calls that vanished",
    applied_late: "calls applied after their timeout",
    applied_twice: "calls applied twice",
    responses_lost: "responses lost",
    requests_dropped: "requests dropped half way",
    crashes: "crashes of a server with requests under way",
    clock_moves: "moves of the clock forward",
    clock_jumps_back: "moves of the clock back",
}

impl Counters {
    /// Returns the number of injected faults.
    #[must_use]
    pub const fn faults(&self) -> u64 {
        self.failed_before
            + self.failed_after
            + self.never_applied
            + self.applied_late
            + self.applied_twice
            + self.responses_lost
            + self.requests_dropped
            + self.crashes
            + self.clock_jumps_back
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.all() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        Ok(())
    }
}
