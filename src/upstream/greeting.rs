//! INFO of a server, as a dial reads it.

use std::sync::Arc;

use serde::Deserialize;

use crate::wire::ServerInfo;

/// One INFO, as read.
pub(super) struct Greeting {
    pub(super) info: Arc<ServerInfo>,
    /// What credentials that are keys have to sign, of this connection alone.
    pub(super) nonce: Option<Box<str>>,
}

impl Greeting {
    /// None when the bytes are not a JSON object with fields of the right type.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let info = ServerInfo::parse(json).ok()?;
        let Nonce { nonce } = serde_json::from_slice(json).ok()?;
        Some(Self {
            info: Arc::new(info),
            nonce,
        })
    }
}

#[derive(Deserialize)]
struct Nonce {
    #[serde(default)]
    nonce: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_text_or_absent() {
        let nonce = |json: &str| Greeting::read(json.as_bytes()).map(|read| read.nonce);
        assert_eq!(nonce(r#"{"nonce":"n0nce"}"#), Some(Some("n0nce".into())));
        assert_eq!(nonce(r#"{"nonce":null}"#), Some(None));
        assert_eq!(nonce("{}"), Some(None));
        assert_eq!(nonce(r#"{"nonce":5}"#), None);
        assert_eq!(nonce("[]"), None);
    }
}
