//! A later CONNECT for an upstream: what a client wishes anew, and no credentials. The server merges it into what it was
//! told before, those included (nats-server `client.go:processConnect` unmarshals into the options it has, and
//! authenticates again with them).

use serde::Serialize;

/// What a later CONNECT changes upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reconnect<'a> {
    /// Deliver own messages.
    pub echo: bool,
    /// Message headers understood.
    pub headers: bool,
    /// Wants a 503 where nobody answers.
    pub no_responders: bool,
    /// Client library.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub lang: &'a str,
    /// Its version.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub version: &'a str,
    /// Name of the application.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'a str,
}

/// What every CONNECT of ours says.
#[derive(Serialize)]
struct Line<'a> {
    verbose: bool,
    pedantic: bool,
    protocol: u8,
    #[serde(flatten)]
    changed: Reconnect<'a>,
}

impl Reconnect<'_> {
    /// Appends `CONNECT {...}` with its line end.
    pub fn push(&self, out: &mut Vec<u8>) {
        let line = Line {
            verbose: false,
            pedantic: false,
            protocol: 1,
            changed: *self,
        };
        out.extend_from_slice(b"CONNECT ");
        if let Ok(json) = serde_json::to_vec(&line) {
            out.extend_from_slice(&json);
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_with_wishes_and_without_credentials() {
        let mut out = Vec::new();
        let reconnect = Reconnect {
            echo: false,
            headers: true,
            no_responders: true,
            lang: "go",
            version: "",
            name: "n\"\r\nSUB > 1",
        };
        reconnect.push(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"echo\":false,\"headers\":true,\
             \"no_responders\":true,\"lang\":\"go\",\"name\":\"n\\\"\\r\\nSUB > 1\"}\r\n"
        );
    }
}
