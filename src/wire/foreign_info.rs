//! INFO from a client: nats-server reads it into its own structure and does nothing with it, unless that fails, which ends
//! the connection without a word (`client.go:processInfo`, `server.go:Info`).
//!
//! Taken is what every version takes. Fields that hold lists or objects, and those of routes and gateways, are not: no client
//! sends them, and which there are depends on the version.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::connect::fold_key;

const TEXTS: [&str; 12] = [
    "server_id",
    "server_name",
    "version",
    "git_commit",
    "go",
    "host",
    "ip",
    "client_ip",
    "nonce",
    "cluster",
    "domain",
    "xkey",
];

const FLAGS: [&str; 8] = [
    "headers",
    "auth_required",
    "tls_required",
    "tls_verify",
    "tls_available",
    "jetstream",
    "cluster_dynamic",
    "ldm",
];

/// Of routes, gateways and leaf nodes; the rest of theirs have a `_` in their names.
const FOREIGN: [&str; 6] = [
    "import",
    "export",
    "gateway",
    "lnoc",
    "lnocu",
    "compression",
];

const NUMBERS: [&str; 4] = ["proto", "port", "max_payload", "client_id"];

/// Whether a server takes an INFO with this JSON text.
pub fn is_taken(json: &[u8]) -> bool {
    serde_json::from_slice::<Taken>(json).is_ok()
}

struct Taken;

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InfoVisitor)
    }
}

struct InfoVisitor;

impl<'de> Visitor<'de> for InfoVisitor {
    type Value = Taken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an INFO object")
    }

    fn visit_unit<E>(self) -> Result<Taken, E> {
        Ok(Taken)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Taken, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let key = fold_key(&key);
            let is = |names: &[&str]| names.contains(&key.as_str());
            if is(&TEXTS) {
                map.next_value::<Option<String>>()?;
            } else if is(&FLAGS) {
                map.next_value::<Option<bool>>()?;
            } else if is(&NUMBERS) {
                // Whatever fits the narrowest of them.
                map.next_value::<Option<u16>>()?;
            } else if is(&FOREIGN) || key.contains('_') {
                return Err(A::Error::custom("a field of a route, gateway or leaf node"));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_version_takes_is_taken() {
        for json in [
            "null",
            "{}",
            r#"{"server_id":"me","ldm":true,"port":4222,"x":[{}]}"#,
            r#"{"LDM":null}"#,
        ] {
            assert!(is_taken(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn what_some_version_refuses_is_not() {
        for json in [
            "",
            "[]",
            "1",
            r#"{"server_id":1}"#,
            r#"{"Server_ID":true}"#,
            r#"{"ldm":"yes"}"#,
            r#"{"port":1.5}"#,
            r#"{"max_payload":4294967296}"#,
            r#"{"connect_urls":1}"#,
            r#"{"gateway_cmd":256}"#,
            r#"{"LNOC":1}"#,
            r#"{"server_id""#,
            "{} x",
        ] {
            assert!(!is_taken(json.as_bytes()), "{json}");
        }
    }
}
