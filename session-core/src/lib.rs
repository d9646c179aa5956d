//! Server-side HTTP sessions: IDs, records, the store trait and the commit protocol.
