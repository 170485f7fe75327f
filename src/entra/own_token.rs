//! What a token of our own says about us. It is decoded and not verified: it came from Entra itself over TLS, and nothing
//! is granted for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::credential::AccessToken;

/// The claims of interest. Microsoft may make such tokens opaque at any time, so all of it is optional.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct OwnToken {
    /// Whose directory it is for.
    pub tid: Option<String>,
    /// Our own object id, which consent is given to.
    pub oid: Option<String>,
    /// Application permissions.
    pub roles: Vec<String>,
}

impl OwnToken {
    /// None when it cannot be read.
    pub fn of(token: &AccessToken) -> Option<Self> {
        let text = token.secret().expose_str()?;
        let mut segments = text.split('.');
        let (_, payload, _) = (segments.next()?, segments.next()?, segments.next()?);
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}
