//! The JSON documents that come over the wire: CONNECT of a client, INFO of a server.

use natsentry::session::SessionId;
use natsentry::wire::{ClientInfo, Connect, Listener, ServerInfo};
use serde::de::IgnoredAny;
use serde_json::Value;

/// A CONNECT document, or two behind each other (with a line feed between), the second read over the first.
///
/// What is accepted is JSON to another parser too, an object or `null`; a token comes from a field that is there; a document
/// that says nothing changes nothing; no secret is printed.
pub fn connect_json(data: &[u8]) {
    let (first, second) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], Some(&data[at + 1..])),
        None => (data, None),
    };
    let Ok(connect) = Connect::parse(first) else {
        return;
    };
    serde_json::from_slice::<IgnoredAny>(first).expect("what is accepted is JSON");
    let Ok(value) = serde_json::from_slice::<Value>(first) else {
        // Fields that nobody reads may hold numbers of any size, and texts that are none.
        return;
    };
    assert!(value.is_object() || value.is_null(), "{value}");
    let given = connect.tokens_given();
    assert_eq!(connect.token().is_some(), given == 1);
    if let Some((_, token)) = connect.token() {
        let token = token.expose_str().expect("JSON strings are text");
        assert!(
            has_text(&value, token),
            "the token is one of the document's strings"
        );
        // What is no secret may say the same.
        let shown = format!("{connect:?}");
        assert!(
            token.len() < 12 || !shown.contains(token) || saying(&value, token) > 1,
            "a token is printed"
        );
    }
    // Which fields came twice is said of each document by itself.
    let connect = Connect {
        repeated_credential: false,
        ..connect
    };
    let again = Connect::parse_onto(connect.clone(), b"{}").expect("an empty object");
    let nothing = Connect::parse_onto(connect.clone(), b"null").expect("null");
    assert_eq!((&again, &nothing), (&connect, &connect));
    if let Some(second) = second
        && let Ok(later) = Connect::parse_onto(connect, second)
    {
        assert!(Connect::parse(second).is_ok(), "{later:?}");
    }
}

/// How many of the document's strings contain `wanted`.
fn saying(value: &Value, wanted: &str) -> usize {
    match value {
        Value::String(text) => usize::from(text.contains(wanted)),
        Value::Array(list) => list.iter().map(|value| saying(value, wanted)).sum(),
        Value::Object(members) => members.values().map(|value| saying(value, wanted)).sum(),
        _ => 0,
    }
}

fn has_text(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Array(list) => list.iter().any(|value| has_text(value, wanted)),
        // Of several members with one name another parser keeps the last alone.
        Value::Object(members) => members.values().any(|value| has_text(value, wanted)),
        _ => false,
    }
}

/// An INFO document of a server, written anew for a client.
///
/// What the client gets is one line, JSON, and names our own address and limit; nothing of the upstream's address, nonce
/// or cluster is in it.
pub fn info_json(data: &[u8]) {
    let Ok(server) = ServerInfo::parse(data) else {
        return;
    };
    let listener = Listener {
        address: "192.0.2.1:4222".parse().expect("an address"),
        tls_required: true,
        tls_verify: false,
    };
    let client = "198.51.100.7".parse().expect("an address");
    let payload_max = server.payload_max().min(1024);
    let mut line = Vec::new();
    ClientInfo::new(&server, &listener, client, SessionId(7).0, payload_max)
        .with_ldm(true)
        .push(&mut line);
    let json = line
        .strip_prefix(b"INFO ")
        .and_then(|rest| rest.strip_suffix(b" \r\n"))
        .expect("an INFO line");
    assert!(!json.contains(&b'\n') && !json.contains(&b'\r'), "one line");
    let value: Value = serde_json::from_slice(json).expect("JSON");
    assert_eq!(value["max_payload"], payload_max);
    assert_eq!(value["host"], "192.0.2.1");
    assert_eq!(value["port"], 4222);
    assert_eq!(value["client_id"], 7);
    assert_eq!(value["ldm"], true);
    assert_eq!(value["tls_required"], true);
    for hidden in ["nonce", "cluster", "connect_urls", "ip"] {
        assert_eq!(value.get(hidden), None, "{hidden}");
    }
    let again = ServerInfo::parse(json).expect("what we write, we read");
    assert_eq!(
        (&again.server_id, &again.version),
        (&server.server_id, &server.version)
    );
}
