//! The outside of a token: its length, its three segments and their alphabet, before anything is decoded.
//!
//! Must never: repair a token. A prefix, quotes or a line break is a mistake that its owner must hear of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::error::{Code, TokenError};

/// A JWS in compact serialization (RFC 7515 section 7.1), split but not decoded.
pub(crate) struct Segments<'a> {
    /// Header and payload with the dot between them: what is signed.
    pub(crate) signed: &'a [u8],
    header: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Segments<'a> {
    pub(crate) fn split(token: &'a [u8], size: usize) -> Result<Self, TokenError> {
        if token.len() > size {
            return Err(TokenError::new(
                Code::Size,
                format!(
                    "token of {} bytes exceeds limit {size}; tokens with many groups are large: use app roles",
                    token.len()
                ),
            ));
        }
        let fits = |byte: u8| is_base64url(byte) || byte == b'.';
        // All of them first, without a way out at each: that is several bytes at a time.
        if !token.iter().fold(true, |all, byte| all & fits(*byte))
            && let Some(bad) = token.iter().position(|byte| !fits(*byte))
        {
            return Err(malformed(token, bad));
        }
        let mut parts = token.split(|b| *b == b'.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(header), Some(payload), Some(signature), None)
                if !header.is_empty() && !payload.is_empty() =>
            {
                let end = token
                    .len()
                    .saturating_sub(signature.len())
                    .saturating_sub(1);
                let signed = token.get(..end).unwrap_or_default();
                Ok(Self {
                    signed,
                    header,
                    payload,
                    signature,
                })
            }
            _ => Err(wrong_count(token)),
        }
    }

    pub(crate) fn header(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.header, "header")
    }

    pub(crate) fn payload(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.payload, "payload")
    }

    /// None when it is empty or not canonical base64url, which then is a bad signature and nothing else.
    pub(crate) fn signature(&self) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = URL_SAFE_NO_PAD.decode(self.signature).ok()?;
        (!bytes.is_empty()).then(|| Zeroizing::new(bytes))
    }
}

fn decode(segment: &[u8], name: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| {
        let length = segment.len();
        TokenError::new(
            Code::Prep,
            format!("not a JWT: the {name} ({length} characters) is not canonical base64url; the token was cut or altered"),
        )
    })
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Names the usual mistakes of pasting.
fn malformed(token: &[u8], at: usize) -> TokenError {
    let lower = |n: usize| {
        token
            .get(..n)
            .map(<[u8]>::to_ascii_lowercase)
            .unwrap_or_default()
    };
    let byte = token.get(at).copied().unwrap_or_default();
    let what = if lower(7) == b"bearer " {
        "it begins with the prefix 'Bearer '; send the token alone".to_owned()
    } else if matches!(token.first(), Some(b'"' | b'\'')) {
        "it stands in quotes; send the token alone".to_owned()
    } else if matches!(token.first(), Some(b'{' | b'[')) {
        "it is a JSON document; send the access_token value of it alone".to_owned()
    } else {
        match byte {
            b'\r' | b'\n' => format!("line break at byte {at} of {}", token.len()),
            b' ' | b'\t' => format!("white space at byte {at} of {}", token.len()),
            b'=' => format!("base64 padding at byte {at}; the compact form has none"),
            b'+' | b'/' => format!("character of the other base64 alphabet at byte {at}"),
            _ => format!("byte 0x{byte:02x} at {at} is not base64url"),
        }
    };
    TokenError::new(Code::Prep, format!("not a JWT: {what}"))
}

fn wrong_count(token: &[u8]) -> TokenError {
    let count = token.split(|b| *b == b'.').count();
    let what = match count {
        _ if token.is_empty() => "it is empty".to_owned(),
        3 => "header or payload is empty".to_owned(),
        5 => "5 segments: an encrypted token (JWE), which only its audience can read".to_owned(),
        1 => "1 segment: perhaps a client secret, an authorization code or a refresh token"
            .to_owned(),
        n => format!("{n} segments where a token has 3"),
    };
    TokenError::new(Code::Prep, format!("not a JWT: {what}"))
}
