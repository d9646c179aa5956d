//! Stores a Protobuf message in a session: a codec for a format outside serde.
//!
//! `cargo run -p session-memory --example protobuf`

use std::sync::Arc;

use prost::Message;
use session_core::{BoxError, Codec, CookieChange, Format, Key, Sessions};
use session_memory::MemoryStore;

/// Encodes the types that prost generates.
struct Protobuf;

impl<T: Message + Default> Codec<T> for Protobuf {
    const FORMAT: Format = Format::application(0);

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(value.encode(out)?)
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(T::decode(bytes)?)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Basket {
    #[prost(string, repeated, tag = "1")]
    items: Vec<String>,
    #[prost(uint32, tag = "2")]
    coupons: u32,
}

const BASKET: Key<Basket, Protobuf> = Key::new("basket");

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sessions = Arc::new(Sessions::new(MemoryStore::default()));

    // A request fills the basket.
    let session = sessions.open([]).await?;
    session.update(BASKET, |basket| basket.items.push("tea".to_owned()))?;
    let CookieChange::Set { id, .. } = session.finish().await? else {
        return Err("a new session is told to the client".into());
    };

    // The next request finds the basket.
    let session = sessions.open([id.expose().as_bytes()]).await?;
    let basket = session.get(BASKET).ok_or("the basket was stored")?;
    println!("in the basket: {}", basket.items.join(", "));
    assert_eq!(basket, Basket { items: vec!["tea".to_owned()], coupons: 0 });
    Ok(())
}
