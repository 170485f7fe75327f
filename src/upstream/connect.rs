//! The CONNECT that a dial sends, and the PING behind it. Pure.

use serde::Serialize;
use zeroize::Zeroizing;

use super::ConnectOptions;
use super::credentials::Proof;

/// CONNECT as we send it: every field there is. Nothing of the client's CONNECT gets here but what
/// [`ConnectOptions`] names.
#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_sig: Option<&'a str>,
}

/// `CONNECT {...}\r\nPING\r\n`, wiped when dropped. The argument stays under [`CONNECT_LIMIT`] bytes unless the
/// credentials alone are longer: then the names of client and library are left out. `headers` says whether the server has any.
pub(super) fn connect_and_ping(
    options: &ConnectOptions<'_>,
    proof: &Proof<'_>,
    headers: bool,
    tls: bool,
) -> Option<Zeroizing<Vec<u8>>> {
    let headers = options.headers && headers;
    let mut connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required: tls,
        name: clipped(options.name, 128),
        lang: clipped(options.lang, 32),
        version: clipped(options.version, 32),
        // The server closes on anything else (nats-server `client.go`, `processConnect`).
        protocol: options.protocol.min(1),
        echo: options.echo,
        headers,
        no_responders: options.no_responders && headers,
        user: proof.user,
        pass: proof.pass,
        auth_token: proof.auth_token,
        nkey: proof.nkey.as_deref(),
        jwt: proof.jwt,
        sig: proof.sig.as_deref(),
        proxy_sig: proof.proxy_sig.as_deref(),
    };
    let mut line = encode(&connect)?;
    if line.len() > CONNECT_LIMIT {
        (connect.name, connect.lang, connect.version) = ("", "", "");
        line = encode(&connect)?;
    }
    Some(line)
}

/// Encodes into memory that is large enough from the start: growing would leave copies of secrets behind.
fn encode(connect: &Connect<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let given = [
        connect.user,
        connect.pass,
        connect.auth_token,
        connect.nkey,
        connect.jwt,
        connect.sig,
        connect.proxy_sig,
    ];
    let own = [connect.name, connect.lang, connect.version];
    let texts = given.into_iter().flatten().chain(own);
    // An escaped character takes up to six bytes.
    let texts = texts.fold(0_usize, |sum, text| {
        sum.saturating_add(text.len().saturating_mul(6))
    });
    let mut line = Zeroizing::new(Vec::with_capacity(texts.saturating_add(FIELDS)));
    line.extend_from_slice(b"CONNECT ");
    serde_json::to_writer(&mut *line, connect).ok()?;
    line.extend_from_slice(b"\r\nPING\r\n");
    Some(line)
}

/// At most `limit` bytes, cut between characters.
fn clipped(text: &str, limit: usize) -> &str {
    (0..=limit.min(text.len()))
        .rev()
        .find_map(|end| text.get(..end))
        .unwrap_or_default()
}

/// `max_control_line` of nats-server (`const.go`), which counts CONNECT too, before authentication; the verb, its
/// blank and PING are counted here besides, to stay well inside.
const CONNECT_LIMIT: usize = 4096;

/// Bytes of the names of all fields and of what is no text, with verb, PING and line ends; more than they ever take.
const FIELDS: usize = 384;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sent(options: &ConnectOptions<'_>, proof: &Proof<'_>, headers: bool) -> Value {
        let bytes = connect_and_ping(options, proof, headers, false).unwrap();
        let line = bytes.strip_suffix(b"\r\nPING\r\n").unwrap();
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        serde_json::from_slice(line.strip_prefix(b"CONNECT ").unwrap()).unwrap()
    }

    #[test]
    fn connect_holds_the_clients_wishes_and_our_credentials_and_nothing_else() {
        let options = ConnectOptions {
            name: "n\"\r\n",
            lang: "go",
            version: "1.53.0",
            no_responders: true,
            ..ConnectOptions::probe()
        };
        let proof = Proof {
            user: Some("u"),
            pass: Some("p\\\"\n"),
            ..Proof::default()
        };
        assert_eq!(
            sent(&options, &proof, true),
            json!({
                "verbose": false, "pedantic": false, "tls_required": false, "name": "n\"\r\n",
                "lang": "go", "version": "1.53.0", "protocol": 1, "echo": false, "headers": true,
                "no_responders": true, "user": "u", "pass": "p\\\"\n",
            })
        );
    }

    #[test]
    fn a_server_without_headers_is_not_asked_for_them() {
        let options = ConnectOptions {
            no_responders: true,
            ..ConnectOptions::probe()
        };
        let connect = sent(&options, &Proof::default(), false);
        assert_eq!(connect["headers"], false);
        assert_eq!(connect["no_responders"], false);
        let odd = ConnectOptions {
            protocol: 9,
            ..options
        };
        assert_eq!(sent(&odd, &Proof::default(), true)["protocol"], 1);
    }

    #[test]
    fn what_the_client_calls_itself_is_cut_and_makes_room_for_credentials() {
        let long = "é\u{1}".repeat(500);
        let options = ConnectOptions {
            name: &long,
            lang: &long,
            version: &long,
            ..ConnectOptions::probe()
        };
        let connect = sent(&options, &Proof::default(), true);
        let bytes = |field: &str| connect[field].as_str().unwrap().len();
        assert!((126..=128).contains(&bytes("name")), "{}", bytes("name"));
        assert!(bytes("lang") <= 32 && bytes("version") <= 32);
        let token = "t".repeat(3700);
        let proof = Proof {
            auth_token: Some(&token),
            ..Proof::default()
        };
        let line = connect_and_ping(&options, &proof, true, true).unwrap();
        assert!(line.len() <= CONNECT_LIMIT, "{}", line.len());
        let full = Proof {
            user: Some("u"),
            pass: Some("p"),
            auth_token: Some("t"),
            nkey: Some("n".into()),
            jwt: Some("j"),
            sig: Some("s".into()),
            proxy_sig: Some("x".into()),
        };
        let escaped = ConnectOptions {
            name: "\u{1}",
            lang: "l",
            version: "v",
            ..options
        };
        let line = connect_and_ping(&escaped, &full, false, false).unwrap();
        assert!(
            line.capacity() == 10 * 6 + FIELDS,
            "it grew: {}",
            line.capacity()
        );
        assert_eq!(sent(&options, &proof, true).get("name"), None);
    }
}
