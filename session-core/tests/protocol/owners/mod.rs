//! I8: the sessions of an owner are known, and can be revoked from elsewhere.

mod index;
mod interleaved;
mod list;
mod revoke;
mod revoke_others;
pub(crate) mod site;
mod two_keys;
mod unreadable;
