use std::marker::PhantomData;

use session_core::{Entry, SessionKey};
use tokio::time::Instant;

#[derive(Default)]
pub(crate) struct Copies(());

pub(crate) type Changing<'c> = PhantomData<&'c ()>;

impl Copies {
    pub(crate) fn freshness(&self) -> Freshness {
        Freshness(())
    }

    pub(crate) fn fetch(&self, _: &SessionKey) -> Fetch<'_> {
        Fetch(PhantomData)
    }

    pub(crate) fn changing(&self, _: &[SessionKey]) -> Changing<'_> {
        PhantomData
    }

    pub(crate) fn ending(&self, _: &[SessionKey]) -> Changing<'_> {
        PhantomData
    }

    pub(crate) fn forget(&self, _: &SessionKey) {}

    pub(crate) fn invalidate(&self, _: &SessionKey) {}

    pub(crate) fn flush(&self, _: &Freshness) {}

    pub(crate) fn disconnect(&self, _: &Freshness) {}
}

#[derive(Clone, Default)]
pub(crate) struct Freshness(());

impl Freshness {
    pub(crate) fn mark(&self) -> ReadOrigin {
        ReadOrigin(())
    }

    pub(crate) fn prove(&self, _: Instant) {}
}

#[derive(Default)]
pub(crate) struct ReadOrigin(());

pub(crate) struct Fetch<'c>(PhantomData<&'c ()>);

impl Fetch<'_> {
    pub(crate) fn keep(self, _: &Entry, _: ReadOrigin) {}
}
