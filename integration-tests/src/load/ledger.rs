use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    account::{Account, Verdict},
    survey::Survey,
    tally::{Request, Tally},
};

/// What visitors were told: sessions that they are done with, and their requests.
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

    /// Adds a session that its visitor is done with.
    pub(super) fn close(&self, account: Account) {
        self.book().done.push(account);
    }

    /// Adds what a visitor found out itself.
    pub(super) fn found(&self, verdict: Verdict) {
        self.book().survey.add(verdict);
    }

    /// Adds what must not be.
    pub(super) fn wrong(&self, text: String) {
        self.book().survey.wrong.push(text);
    }

    pub(super) fn tally<T>(&self, read: impl FnOnce(&Tally) -> T) -> T {
        read(&self.book().tally)
    }

    /// The sessions that visitors are done with, and what they found out themselves, since this was last
    /// asked.
    pub(super) fn take(&self) -> (Vec<Account>, Survey) {
        let mut book = self.book();
        (std::mem::take(&mut book.done), std::mem::take(&mut book.survey))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
