//! The INFO that we write for a client. It is an allow-list, so that no address, nonce, key or TLS flag of the upstream can
//! reach a client, in the first INFO or in any later one.
//!
//! Source: nats-server `server.go:Info` and `generateInfoJSON`.

use std::fmt::Display;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::encode::decimal;
use super::info::ServerInfo;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    git_commit: Option<&'a str>,
    go: &'a str,
    host: IpAddr,
    port: u16,
    headers: bool,
    tls_required: bool,
    tls_verify: bool,
    max_payload: u32,
    jetstream: bool,
    client_id: u64,
    client_ip: IpAddr,
    ldm: bool,
    domain: Option<&'a str>,
    api_lvl: Option<i64>,
    connect_info: bool,
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
            git_commit: server.git_commit.as_deref(),
            go: &server.go,
            host: listener.address.ip(),
            port: listener.address.port(),
            headers: server.headers,
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
        push_text(out, b"INFO {\"server_id\":", self.server_id);
        push_text(out, b",\"server_name\":", self.server_name);
        push_text(out, b",\"version\":", self.version);
        out.extend_from_slice(b",\"proto\":1");
        if let Some(commit) = self.git_commit {
            push_text(out, b",\"git_commit\":", commit);
        }
        push_text(out, b",\"go\":", self.go);
        self.push_connection(out);
        if let Some(domain) = self.domain {
            push_text(out, b",\"domain\":", domain);
        }
        if let Some(level) = self.api_lvl {
            out.extend_from_slice(b",\"api_lvl\":");
            push_plain(out, level);
        }
        push_if(out, self.connect_info, b",\"connect_info\":true");
        out.extend_from_slice(b"} \r\n");
    }

    fn push_connection(&self, out: &mut Vec<u8>) {
        push_address(out, b",\"host\":\"", self.host);
        push_number(out, b",\"port\":", self.port.into());
        push_if(out, self.headers, b",\"headers\":true");
        push_if(out, !self.headers, b",\"headers\":false");
        // nats-py sends no credentials at all unless it is asked for them.
        out.extend_from_slice(b",\"auth_required\":true");
        push_if(out, self.tls_required, b",\"tls_required\":true");
        push_if(out, self.tls_verify, b",\"tls_verify\":true");
        push_number(out, b",\"max_payload\":", self.max_payload.into());
        push_if(out, self.jetstream, b",\"jetstream\":true");
        push_number(out, b",\"client_id\":", self.client_id);
        push_address(out, b",\"client_ip\":\"", self.client_ip);
        push_if(out, self.ldm, b",\"ldm\":true");
    }
}

fn push_if(out: &mut Vec<u8>, is_so: bool, member: &[u8]) {
    if is_so {
        out.extend_from_slice(member);
    }
}

fn push_text(out: &mut Vec<u8>, name: &[u8], text: &str) {
    out.extend_from_slice(name);
    let has_to_be_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Without a way out of the middle, many bytes are looked at together.
    let any = |any: bool, byte: u8| any | has_to_be_escaped(byte);
    if text.bytes().fold(false, any) {
        // Nothing of it can fail to be written to memory.
        let _ = serde_json::to_writer(out, text);
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

fn push_number(out: &mut Vec<u8>, name: &[u8], number: u64) {
    out.extend_from_slice(name);
    match u32::try_from(number) {
        Ok(number) => decimal(out, number),
        Err(_) => push_plain(out, number),
    }
}

/// An address, with the quote that ends it; `name` ends with the one that begins it.
fn push_address(out: &mut Vec<u8>, name: &[u8], address: IpAddr) {
    out.extend_from_slice(name);
    match address {
        IpAddr::V4(address) => {
            for (at, part) in address.octets().into_iter().enumerate() {
                push_if(out, at > 0, b".");
                decimal(out, part.into());
            }
        }
        IpAddr::V6(address) => push_plain(out, address),
    }
    out.push(b'"');
}

/// What is written as it is shown, with nothing in it that has to be escaped.
fn push_plain(out: &mut Vec<u8>, value: impl Display) {
    let _ = write!(out, "{value}");
}

/// Bytes that an INFO takes, so that it need not grow.
const USUAL_LENGTH: usize = 640;

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
    fn whatever_a_server_calls_itself_is_json_on_one_line() {
        let listener = Listener {
            address: "[2001:db8::1]:4222".parse().unwrap(),
            tls_required: true,
            tls_verify: true,
        };
        for text in [
            "",
            "\"",
            "\\",
            "a\r\nPUB x 0\r\n",
            "\u{0}\u{1f}\u{7f}",
            "\u{2028}é\u{10ffff}",
        ] {
            let server = ServerInfo {
                server_id: text.to_owned(),
                server_name: text.to_owned(),
                version: text.to_owned(),
                go: text.to_owned(),
                git_commit: Some(text.to_owned()),
                domain: Some(text.to_owned()),
                api_lvl: Some(-1),
                jetstream: true,
                ..ServerInfo::unknown()
            };
            let mut out = Vec::new();
            let client = "2001:db8::2".parse().unwrap();
            ClientInfo::new(&server, &listener, client, u64::MAX, 1)
                .with_ldm(true)
                .with_connect_info(true)
                .push(&mut out);
            let json = out.strip_prefix(b"INFO ").unwrap();
            let json = json.strip_suffix(b" \r\n").unwrap();
            assert!(json.iter().all(|byte| *byte >= b' '));
            let value: Value = serde_json::from_slice(json).unwrap();
            let of_server = [
                "server_id",
                "server_name",
                "version",
                "go",
                "git_commit",
                "domain",
            ];
            assert!(of_server.iter().all(|name| value[name] == text), "{value}");
            let rest = serde_json::json!({
                "proto": 1, "host": "2001:db8::1", "port": 4222, "headers": true, "auth_required": true,
                "tls_required": true, "tls_verify": true, "max_payload": 1, "jetstream": true,
                "client_id": u64::MAX, "client_ip": "2001:db8::2", "ldm": true, "api_lvl": -1, "connect_info": true,
            });
            let rest = rest.as_object().unwrap();
            assert!(
                rest.iter().all(|(name, wanted)| value[name] == *wanted),
                "{value}"
            );
            assert_eq!(
                value.as_object().unwrap().len(),
                rest.len() + of_server.len()
            );
        }
    }
}
