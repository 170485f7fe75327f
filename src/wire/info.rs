//! INFO documents: what we read of a server's, and the one we write for a client. What is written is an allow-list, so
//! that no address, nonce, key or TLS flag of the upstream can reach a client, in the first INFO or in any later one.
//!
//! Source: nats-server `server.go:Info` and `generateInfoJSON`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize};

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

/// The proxy's own side of an INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address that the client reached.
    pub address: SocketAddr,
    /// TLS must be used on this connection and is not yet.
    pub tls_required: bool,
    /// A client certificate must be given.
    pub tls_verify: bool,
}

/// An INFO for one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientInfo<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    git_commit: Option<&'a str>,
    go: &'a str,
    host: IpAddr,
    port: u16,
    headers: bool,
    auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    tls_verify: bool,
    max_payload: u32,
    #[serde(skip_serializing_if = "is_false")]
    jetstream: bool,
    client_id: u64,
    client_ip: IpAddr,
    #[serde(skip_serializing_if = "is_false")]
    ldm: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_lvl: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    connect_info: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl<'a> ClientInfo<'a> {
    /// The INFO for a client at `client`, after `server`'s. `max_payload` is in bytes.
    pub fn new(
        server: &'a ServerInfo,
        listener: &Listener,
        client: IpAddr,
        client_id: u64,
        max_payload: u32,
    ) -> Self {
        Self {
            server_id: &server.server_id,
            server_name: &server.server_name,
            version: &server.version,
            proto: 1,
            git_commit: server.git_commit.as_deref(),
            go: &server.go,
            host: listener.address.ip(),
            port: listener.address.port(),
            headers: server.headers,
            // nats-py sends no credentials at all unless it is asked for them.
            auth_required: true,
            tls_required: listener.tls_required,
            tls_verify: listener.tls_verify,
            max_payload: max_payload.min(server.payload_max()),
            jetstream: server.jetstream,
            client_id,
            client_ip: client,
            ldm: server.ldm,
            domain: server.domain.as_deref(),
            api_lvl: server.api_lvl,
            connect_info: server.connect_info,
        }
    }

    /// The same with the lame duck mark set or not.
    #[must_use]
    pub const fn with_ldm(mut self, ldm: bool) -> Self {
        self.ldm = ldm;
        self
    }

    /// The same, marked as one of the connection after CONNECT or not.
    #[must_use]
    pub const fn with_connect_info(mut self, connect_info: bool) -> Self {
        self.connect_info = connect_info;
        self
    }

    /// Appends `INFO {...} \r\n`, with the blank before CR LF that nats-server writes.
    pub fn push(&self, out: &mut Vec<u8>) {
        out.reserve(USUAL_LENGTH);
        out.extend_from_slice(b"INFO ");
        // Nothing of it can fail to be written to memory.
        let _ = serde_json::to_writer(&mut *out, self);
        out.extend_from_slice(b" \r\n");
    }
}

/// Bytes that an INFO takes, so that it need not grow.
const USUAL_LENGTH: usize = 640;

#[cfg(test)]
mod tests {
    use super::*;

    const UPSTREAM: &str = r#"{"server_id":"NA","server_name":"plant","version":"2.15.1","proto":1,"git_commit":"b2f",
        "go":"go1.27","host":"10.9.8.7","port":4999,"headers":true,"auth_required":true,"tls_required":true,
        "tls_verify":true,"tls_available":true,"max_payload":1048576,"jetstream":true,"client_id":7,
        "client_ip":"10.1.1.1","nonce":"abcdefgh","xkey":"XKEY","cluster":"east","connect_urls":["10.9.8.8:4222"],
        "api_lvl":5,"ip":"10.9.8.9","remote_account":"SECRET","domain":"hub"}"#;

    #[test]
    fn a_client_learns_nothing_of_the_upstreams_place_and_keys() {
        let server = ServerInfo::parse(UPSTREAM.as_bytes()).unwrap();
        let listener = Listener {
            address: "192.0.2.1:4222".parse().unwrap(),
            tls_required: false,
            tls_verify: false,
        };
        let mut out = Vec::new();
        let client = "198.51.100.7".parse().unwrap();
        ClientInfo::new(&server, &listener, client, 42, 65_536).push(&mut out);
        let text = String::from_utf8(out).unwrap();
        for secret in [
            "10.9.8", "10.1.1", "4999", "nonce", "xkey", "tls", "urls", "east", "SECRET", "\"ip\"",
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        for kept in [
            r#""version":"2.15.1""#,
            r#""host":"192.0.2.1","port":4222"#,
            r#""auth_required":true"#,
            r#""max_payload":65536"#,
            r#""client_ip":"198.51.100.7""#,
            r#""client_id":42"#,
            r#""api_lvl":5"#,
            r#""domain":"hub""#,
        ] {
            assert!(text.contains(kept), "{kept} not in {text}");
        }
        assert!(text.starts_with("INFO {") && text.ends_with("} \r\n"));
    }

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
