//! What we read of a server's INFO.
//!
//! Source: nats-server `server.go:Info` and `generateInfoJSON`.

use serde::{Deserialize, Deserializer};

/// What we read of a server's INFO. `null` and absence are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Identity of the server.
    #[serde(deserialize_with = "or_default")]
    pub server_id: String,
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub server_name: String,
    /// Its version: clients decide by it which features to use.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// Protocol version, 1.
    #[serde(deserialize_with = "or_default")]
    pub proto: i64,
    /// Build commit.
    pub git_commit: Option<String>,
    /// Go version.
    #[serde(deserialize_with = "or_default")]
    pub go: String,
    /// Message headers understood.
    #[serde(deserialize_with = "or_default")]
    pub headers: bool,
    /// TLS must follow on the connection. Never told to a client.
    #[serde(deserialize_with = "or_default")]
    pub tls_required: bool,
    /// TLS may follow. Never told to a client.
    #[serde(deserialize_with = "or_default")]
    pub tls_available: bool,
    /// Largest payload in bytes; negative or 0 means none was set.
    #[serde(deserialize_with = "or_default")]
    pub max_payload: i64,
    /// JetStream is on.
    #[serde(deserialize_with = "or_default")]
    pub jetstream: bool,
    /// JetStream domain.
    pub domain: Option<String>,
    /// JetStream API level (2.12).
    pub api_lvl: Option<i64>,
    /// The server is about to go away.
    #[serde(deserialize_with = "or_default")]
    pub ldm: bool,
    /// This INFO describes the connection after CONNECT (2.12).
    #[serde(deserialize_with = "or_default")]
    pub connect_info: bool,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Why an INFO of a server cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("INFO is not a JSON object with the field types of NATS")]
pub struct InfoFault;

impl ServerInfo {
    /// Reads the JSON text after INFO.
    ///
    /// # Errors
    /// [`InfoFault`] when it is not a JSON object with the field types of nats-server.
    pub fn parse(json: &[u8]) -> Result<Self, InfoFault> {
        // What is derived takes an array of the fields as well.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(InfoFault);
        }
        serde_json::from_slice(json).map_err(|_| InfoFault)
    }

    /// What to greet with before any upstream was ever reached.
    pub fn unknown() -> Self {
        Self {
            server_id: "NATSENTRY".to_owned(),
            server_name: "natsentry".to_owned(),
            version: "2.9.0".to_owned(),
            proto: 1,
            headers: true,
            max_payload: 1024 * 1024,
            ..Self::default()
        }
    }

    /// The largest payload in bytes that the server takes; a negative or absent value means the server's default.
    pub fn payload_max(&self) -> u32 {
        match u32::try_from(self.max_payload) {
            Ok(0) | Err(_) => 1024 * 1024,
            Ok(max) => max,
        }
    }

    /// Whether the server is 2.12 or newer, told by the field that came with it.
    pub const fn is_at_least_2_12(&self) -> bool {
        self.api_lvl.is_some()
    }

    /// Whether a later CONNECT takes all subscriptions away, as it does since 2.11.17, 2.12.8 and 2.14 (nats-server
    /// `client.go:clearAccountSubs`). A version that cannot be read counts as a new one.
    pub fn connect_takes_subscriptions(&self) -> bool {
        let mut numbers = self.version.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit());
            part.get(..digits.unwrap_or(part.len()))?
                .parse::<u32>()
                .ok()
        });
        let mut next = || numbers.next().flatten();
        match (next(), next(), next()) {
            (Some(2), Some(12), Some(patch)) => patch >= 8,
            (Some(2), Some(11), Some(patch)) => patch >= 17,
            (Some(2), Some(minor), Some(_)) => minor > 12,
            (Some(major), Some(_), Some(_)) => major > 2,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_with_nulls_and_unknown_fields_and_refused_otherwise() {
        let info = ServerInfo::parse(
            br#"{"server_id":null,"version":"2.10.0","proto":null,"nonce":null,"ldm":true,"headers":true,
                "tls_required":null,"max_payload":-1,"connect_urls":["a"],"x":{"y":[]}}"#,
        )
        .unwrap();
        assert!(info.ldm && info.headers && !info.tls_required);
        assert_eq!((&*info.version, info.max_payload), ("2.10.0", -1));
        for json in ["", "[]", "null", "1", "{", r#"{"ldm":1}"#, r#"{"go":5}"#] {
            assert_eq!(ServerInfo::parse(json.as_bytes()), Err(InfoFault), "{json}");
        }
    }

    #[test]
    fn versions_differ_in_what_a_later_connect_takes() {
        let takes = |version: &str| {
            let info = ServerInfo {
                version: version.to_owned(),
                ..ServerInfo::default()
            };
            info.connect_takes_subscriptions()
        };
        for version in [
            "2.9.10",
            "2.10.29",
            "2.11.16",
            "2.12.7",
            "2.12.0-beta.1",
            "1.4.1",
            "0.9.6",
        ] {
            assert!(!takes(version), "{version}");
        }
        for version in [
            "2.11.17",
            "2.12.8",
            "2.12.12-RC.1",
            "2.14.0",
            "2.15.0-dev",
            "3.0.0",
            "",
            "2",
            "2.9",
            "x.y.z",
            "2.9.x",
        ] {
            assert!(takes(version), "{version}");
        }
    }

    #[test]
    fn a_negative_max_payload_never_reaches_a_client() {
        let server = ServerInfo::parse(br#"{"max_payload":-1}"#).unwrap();
        assert_eq!(server.payload_max(), 1024 * 1024);
    }
}
