use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    account::{Account, Verdict},
    survey::Survey,
    tally::{Request, Tally},
};

/// The records of all visitors: completed sessions, and their requests.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    done: Vec<Account>,
    survey: Survey,
    tally: Tally,
}

impl Ledger {
    pub(super) fn of(visitors: usize) -> Self {
        let tally = Tally::of(visitors);
        Self(Mutex::new(Book { done: Vec::new(), survey: Survey::default(), tally }))
    }

    pub(super) fn note(&self, request: Request) {
        self.book().tally.add(request);
    }

    /// Adds a session that its visitor has finished.
    pub(super) fn close(&self, account: Account) {
        self.book().done.push(account);
    }

    /// Adds a result that a visitor found itself.
    pub(super) fn found(&self, verdict: Verdict) {
        self.book().survey.add(verdict);
    }

    /// Adds an error that must never occur.
    pub(super) fn wrong(&self, text: String) {
        self.book().survey.wrong.push(text);
    }

    pub(super) fn tally<T>(&self, read: impl FnOnce(&Tally) -> T) -> T {
        read(&self.book().tally)
    }

    /// Returns the completed sessions, and the visitors' own results, since the last call.
    pub(super) fn take(&self) -> (Vec<Account>, Survey) {
        let mut book = self.book();
        (std::mem::take(&mut book.done), std::mem::take(&mut book.survey))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change is complete before a panic can occur.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
