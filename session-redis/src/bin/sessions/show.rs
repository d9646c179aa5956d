use serde_json::{Map, Value, json};
use session_core::{
    Clock as _, Codec as _, Entry, Format, MessagePack, Record, SessionKey, SessionStore as _,
    SystemClock,
};
use session_redis::RedisStore;

use crate::{
    failure::Failure,
    output::{Output, hex, owner_json, time},
};

/// Prints the entry under a key. The values may be secret, and are shown on request.
pub(crate) async fn show(
    store: &RedisStore,
    key: SessionKey,
    with_values: bool,
) -> Result<(), Failure> {
    let shown = match store.load(&key, SystemClock.now()).await? {
        None => return Err(Failure::NotFound("no session has this key")),
        Some(Entry::Session(record)) => session(key, &record, with_values),
        Some(Entry::Tombstone(tombstone)) => json!({
            "key": key,
            "state": if tombstone.successor().is_some() { "moved" } else { "ended" },
            "present_key": tombstone.successor(),
        }),
    };
    Output::print_pretty(&shown)?;
    Ok(())
}

fn session(key: SessionKey, record: &Record, with_values: bool) -> Value {
    let value = |(name, format, bytes): (&str, Format, &[u8])| {
        let mut shown = json!({ "format": format.to_string(), "bytes": bytes.len() });
        if with_values {
            shown["value"] = decoded(format, bytes);
        }
        (name.to_owned(), shown)
    };
    json!({
        "key": key,
        "state": "live",
        "owner": record.owner().map(owner_json),
        "actor": record.actor().map(owner_json),
        "created_at": time(record.created_at()),
        "authenticated_at": record.authenticated_at().map(time),
        "last_seen_at": time(record.last_seen_at()),
        "expires_at": time(record.expires_at()),
        "ends_at": time(record.absolute_deadline()),
        "locked_until": record.locked_until().map(time),
        "revision": record.revision().as_u64(),
        "values": record.encoded_values().map(value).collect::<Map<_, _>>(),
    })
}

/// Returns a value as JSON, or its bytes if it has no form in JSON.
fn decoded(format: Format, bytes: &[u8]) -> Value {
    let value = match format {
        // The codec bounds the nesting, as a value may be damaged.
        Format::MESSAGE_PACK => MessagePack::decode(bytes).ok(),
        Format::JSON => serde_json::from_slice(bytes).ok(),
        Format::RAW => std::str::from_utf8(bytes).ok().map(Value::from),
        _ => None,
    };
    value.unwrap_or_else(|| json!({ "hex": hex(bytes) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_decoded_by_its_format() {
        let mut packed = Vec::new();
        MessagePack::encode(&json!({ "tea": 2 }), &mut packed).unwrap();
        assert_eq!(decoded(Format::MESSAGE_PACK, &packed), json!({ "tea": 2 }));
        assert_eq!(decoded(Format::JSON, br#"["tea"]"#), json!(["tea"]));
        assert_eq!(decoded(Format::RAW, b"tea"), json!("tea"));
    }

    #[test]
    fn value_without_a_form_in_json_is_shown_by_its_bytes() {
        // A map with a number as the key, damaged text, and a format of the application.
        for (format, bytes) in [
            (Format::MESSAGE_PACK, &[0x81, 0xc0, 0x01][..]),
            (Format::JSON, b"{"),
            (Format::RAW, &[0xff]),
            (Format::application(7), b"tea"),
        ] {
            assert_eq!(decoded(format, bytes), json!({ "hex": hex(bytes) }), "{format}");
        }
    }

    /// Stored bytes may nest as deep as they like.
    #[test]
    fn deeply_nested_value_is_shown_by_its_bytes() {
        let nested = [vec![0x91; 100_000], vec![0xc0]].concat();
        assert!(decoded(Format::MESSAGE_PACK, &nested).get("hex").is_some());
        let nested = "[".repeat(100_000);
        assert!(decoded(Format::JSON, nested.as_bytes()).get("hex").is_some());
    }
}
