//! Values through both serde codecs: whatever `set` accepts, `get` reads, and no bytes end the process.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may unwrap")]

#[path = "../../examples/map_store/store.rs"]
mod map_store;

mod arbitrary;
mod checks;
mod deep;
mod depth;
mod planted;
mod positions;
mod shapes;

use std::{fmt::Debug, thread};

use map_store::MapStore;
use serde::{Serialize, de::DeserializeOwned};
use session_core::{
    BoxError, Codec, CookieChange, Format, Json, Key, Limits, MessagePack, SessionError, SessionId,
    Sessions,
};
use tokio::runtime::{Builder, Runtime};

/// A type that both codecs take.
trait Value: Serialize + DeserializeOwned + Debug + PartialEq + 'static {}

impl<T: Serialize + DeserializeOwned + Debug + PartialEq + 'static> Value for T {}

/// An application, and its only browser.
struct World {
    runtime: Runtime,
    sessions: Sessions,
    id: SessionId,
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let limits = Limits::default().with_value_bytes(1 << 24).with_session_bytes(1 << 25);
        let sessions = Sessions::builder(MapStore::default()).with_limits(limits).build().unwrap();
        let change = runtime.block_on(async {
            let session = sessions.open([]).await.unwrap();
            session.set(Key::<u8>::new("first"), 0).unwrap();
            session.finish().await.unwrap()
        });
        let CookieChange::Set { id, .. } = change else { panic!("a new session has an ID") };
        Self { runtime, sessions, id }
    }

    /// Sets a value in one request, and reads it in the next.
    fn round_trip<C: Codec<T>, T>(&self, value: &T) -> Result<T, SessionError> {
        const VALUE: &str = "value";
        self.runtime.block_on(async {
            let session = self.open().await;
            session.set(Key::<T, C>::new(VALUE), value)?;
            let _ = session.finish().await.unwrap();
            let session = self.open().await;
            let stored = session.try_get(Key::<T, C>::new(VALUE));
            Ok(stored.expect("`get` reads what `set` accepted").expect("it is stored"))
        })
    }

    /// Reads bytes that are in the store as a value of the format.
    fn read<C: Codec<T> + Marked, T>(&self, bytes: &[u8]) -> Result<T, SessionError> {
        const PLANTED: &str = "planted";
        self.runtime.block_on(async {
            let session = self.open().await;
            session.set(Key::<Vec<u8>, Planted<C>>::new(PLANTED), bytes).unwrap();
            let _ = session.finish().await.unwrap();
            let session = self.open().await;
            Ok(session.try_get(Key::<T, C>::new(PLANTED))?.expect("it is stored"))
        })
    }

    async fn open(&self) -> session_core::Session {
        self.sessions.open([self.id.expose().as_bytes()]).await.unwrap()
    }
}

/// A serde codec, and the name that it gives its values.
trait Marked {
    const NAME: &str;
    const MARK: Format;

    /// Encodes a value as the codec does, however deep it is.
    fn encode_unbounded<T: Serialize>(value: &T) -> Vec<u8>;
}

impl Marked for MessagePack {
    const NAME: &str = "MessagePack";
    const MARK: Format = Format::MESSAGE_PACK;

    fn encode_unbounded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        let serializer = rmp_serde::Serializer::new(&mut bytes);
        value.serialize(&mut serializer.with_struct_map().with_human_readable()).unwrap();
        bytes
    }
}

impl Marked for Json {
    const NAME: &str = "JSON";
    const MARK: Format = Format::JSON;

    fn encode_unbounded<T: Serialize>(value: &T) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }
}

/// Stores any bytes as a value of another codec.
struct Planted<C>(C);

impl<C: Marked> Codec<Vec<u8>> for Planted<C> {
    const FORMAT: Format = C::MARK;

    fn encode(value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(bytes.to_vec())
    }
}

/// Runs a test on a stack of the size that threads have by default.
fn on_a_usual_stack(test: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap().join().unwrap();
}

/// The words of the codec for a refusal by `set`.
fn reason(error: &SessionError) -> String {
    match error {
        SessionError::Encode { source, .. } => source.to_string(),
        error => panic!("another error: {error}"),
    }
}
