//! The CONNECT document of a client: the fields we read, and where the token can sit. Nothing of it is ever edited and
//! passed on: the CONNECT for upstream is written anew from an allow-list.
//!
//! Source: nats-server `client.go:ClientOpts` and Go's `encoding/json`, which looks fields up without regard to case
//! (with Unicode folding), takes the last of several, and leaves a field alone at `null`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::secret::Secret;

/// Which field the token came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `auth_token`.
    AuthToken,
    /// `pass`, with any `user`.
    Password,
    /// `jwt`.
    Jwt,
}

/// What a CONNECT says. Defaults are the server's (`client.go:defaultOpts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Answer every operation with `+OK`. Default true.
    pub verbose: bool,
    /// Check subjects strictly. Default true.
    pub pedantic: bool,
    /// Deliver own messages. Default true.
    pub echo: bool,
    /// 1 when the client understands later INFOs.
    pub protocol: i64,
    /// Message headers understood.
    pub headers: bool,
    /// Wants a 503 where nobody answers.
    pub no_responders: bool,
    /// Client library.
    pub lang: String,
    /// Version of the client library.
    pub version: String,
    /// Name of the application.
    pub name: String,
    /// `user`: with a token in `pass`, the role that the client asks for.
    pub user: String,
    /// `auth_token`.
    pub auth_token: Secret,
    /// `pass`.
    pub pass: Secret,
    /// `jwt`.
    pub jwt: Secret,
    /// `account` or `new_account` was given.
    pub account: bool,
    /// A field that only routes, gateways and leaf nodes send was given.
    pub inter_server: bool,
    /// A credential field was given more than once.
    pub repeated_credential: bool,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            protocol: 0,
            headers: false,
            no_responders: false,
            lang: String::new(),
            version: String::new(),
            name: String::new(),
            user: String::new(),
            auth_token: Secret::default(),
            pass: Secret::default(),
            jwt: Secret::default(),
            account: false,
            inter_server: false,
            repeated_credential: false,
        }
    }
}

/// Why a CONNECT gives no token that could be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFault {
    /// Not the JSON that the server would take: it closes silently on it.
    #[error("CONNECT is not a JSON object with the field types of NATS")]
    Malformed,
}

impl Connect {
    /// Reads the JSON text after CONNECT.
    ///
    /// # Errors
    /// [`ConnectFault::Malformed`] on anything that `encoding/json` refuses: bad JSON, trailing bytes, a wrong field
    /// type. `null` is valid and says nothing.
    pub fn parse(json: &[u8]) -> Result<Self, ConnectFault> {
        Self::parse_onto(Self::default(), json)
    }

    /// The same over what was said before, as for a second CONNECT (`client.go:processConnect` unmarshals into the
    /// options it has): fields that are not named stay.
    ///
    /// # Errors
    /// As [`Connect::parse`].
    pub fn parse_onto(before: Self, json: &[u8]) -> Result<Self, ConnectFault> {
        if nests_too_deep(json) {
            return Err(ConnectFault::Malformed);
        }
        let mut reader = serde_json::Deserializer::from_slice(json);
        let connect = reader
            .deserialize_any(ConnectVisitor(before))
            .map_err(|_| ConnectFault::Malformed)?;
        reader.end().map_err(|_| ConnectFault::Malformed)?;
        Ok(connect)
    }

    /// The one token in it and where it was. None when there is no token, or more than one.
    pub fn token(&self) -> Option<(Credential, &Secret)> {
        let fields = [
            (Credential::AuthToken, &self.auth_token),
            (Credential::Password, &self.pass),
            (Credential::Jwt, &self.jwt),
        ];
        let mut given = fields.into_iter().filter(|(_, secret)| !secret.is_empty());
        let first = given.next()?;
        given.next().is_none().then_some(first)
    }

    /// The same, taken out: a secret is not copied where it need not be.
    pub fn take_token(&mut self) -> Option<(Credential, Secret)> {
        let (credential, _) = self.token()?;
        let field = match credential {
            Credential::AuthToken => &mut self.auth_token,
            Credential::Password => &mut self.pass,
            Credential::Jwt => &mut self.jwt,
        };
        Some((credential, std::mem::take(field)))
    }

    /// How many fields hold something that could be a token.
    pub fn tokens_given(&self) -> usize {
        [&self.auth_token, &self.pass, &self.jwt]
            .iter()
            .filter(|secret| !secret.is_empty())
            .count()
    }
}

/// Deepest nesting taken; no field of CONNECT nests at all, so only unknown fields could.
const DEPTH_MAX: usize = 32;

/// Whether brackets outside strings nest deeper than [`DEPTH_MAX`].
fn nests_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some(byte) = json.get(at) {
        at = at.saturating_add(1);
        match byte {
            // Nearly all of it is the token, which is one string.
            b'"' => at = at.saturating_add(string_length(json.get(at..).unwrap_or_default())),
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Bytes of a string up to the quote that ends it, which counts; to the end where none does.
fn string_length(json: &[u8]) -> usize {
    let mut at = 0_usize;
    while let Some(found) = json
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at = at.saturating_add(found);
        if json.get(at) == Some(&b'"') {
            return at.saturating_add(1);
        }
        at = at.saturating_add(2);
    }
    json.len()
}

/// Folds a key as `encoding/json` does: ASCII case, and the two other letters that fold to ASCII ones.
pub fn fold_key(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// A key, folded. Borrowed where it is as it stands, as nearly all are.
struct Key<'de>(Cow<'de, str>);

impl<'de> de::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        let folds = |byte: u8| byte.is_ascii_uppercase() || !byte.is_ascii();
        Ok(Key(if key.bytes().any(folds) {
            Cow::Owned(fold_key(key))
        } else {
            Cow::Borrowed(key)
        }))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(fold_key(key))))
    }
}

/// Reads over what was said before.
struct ConnectVisitor(Connect);

impl<'de> Visitor<'de> for ConnectVisitor {
    type Value = Connect;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CONNECT object")
    }

    fn visit_unit<E>(self) -> Result<Connect, E> {
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Connect, A::Error> {
        let Self(mut connect) = self;
        let mut repeated = false;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "auth_token" => repeated |= secret(&mut map, &mut connect.auth_token)?,
                "pass" => repeated |= secret(&mut map, &mut connect.pass)?,
                "jwt" => repeated |= secret(&mut map, &mut connect.jwt)?,
                key => connect.plain_field(key, &mut map)?,
            }
        }
        connect.repeated_credential = repeated;
        Ok(connect)
    }
}

impl Connect {
    fn plain_field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "verbose" => set(map, &mut self.verbose),
            "pedantic" => set(map, &mut self.pedantic),
            "echo" => set(map, &mut self.echo),
            "protocol" => set(map, &mut self.protocol),
            "headers" => set(map, &mut self.headers),
            "no_responders" => set(map, &mut self.no_responders),
            "lang" => set(map, &mut self.lang),
            "version" => set(map, &mut self.version),
            "name" => set(map, &mut self.name),
            "user" => set(map, &mut self.user),
            "account" => {
                let mut account = String::new();
                set(map, &mut account)?;
                self.account |= !account.is_empty();
                Ok(())
            }
            "new_account" => set(map, &mut self.account),
            "tls_required" => set(map, &mut false),
            "nkey" | "sig" | "proxy_sig" => set(map, &mut String::new()),
            "cluster" | "gateway" | "server_id" | "is_hub" | "remote_account" | "import"
            | "export" | "deny_pub" | "compress_mode" => {
                self.inter_server = true;
                map.next_value::<IgnoredAny>().map(drop)
            }
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

fn set<'de, A: MapAccess<'de>, T: de::Deserialize<'de>>(
    map: &mut A,
    field: &mut T,
) -> Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<T>>()? {
        *field = value;
    }
    Ok(())
}

/// Takes a credential; true when it was given before.
fn secret<'de, A: MapAccess<'de>>(map: &mut A, field: &mut Secret) -> Result<bool, A::Error> {
    let repeated = !field.is_empty();
    if let Some(value) = map.next_value::<Option<String>>()? {
        *field = Secret::new(value);
    }
    Ok(repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Connect {
        Connect::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn defaults_are_the_servers() {
        for json in ["{}", "null", r#"{"verbose":null,"echo":null,"lang":null}"#] {
            assert_eq!(parse(json), Connect::default(), "{json}");
        }
    }

    #[test]
    fn keys_fold_as_in_go() {
        assert_eq!(
            parse(r#"{"AUTH_TOKEN":"t"}"#).token().unwrap().0,
            Credential::AuthToken
        );
        assert_eq!(
            parse(r#"{"pa\u017f\u017f":"t"}"#).token().unwrap().0,
            Credential::Password
        );
        assert_eq!(parse(r#"{"u\u0073er":"u"}"#).user, "u");
        assert!(parse(r#"{"auth_token":"a","Auth_Token":"b"}"#).repeated_credential);
    }

    #[test]
    fn one_token_in_one_place() {
        assert!(parse("{}").token().is_none());
        for (json, credential) in [
            (r#"{"auth_token":"t"}"#, Credential::AuthToken),
            (r#"{"pass":"t"}"#, Credential::Password),
            (r#"{"jwt":"t"}"#, Credential::Jwt),
        ] {
            let mut connect = parse(json);
            assert_eq!(connect.take_token(), Some((credential, Secret::new("t"))));
            assert_eq!(connect.tokens_given(), 0);
        }
        assert!(parse(r#"{"pass":"a","jwt":"b"}"#).take_token().is_none());
        assert!(parse(r#"{"pass":"a","auth_token":"b"}"#).token().is_none());
        assert_eq!(
            parse(r#"{"pass":"a","auth_token":null,"jwt":""}"#).tokens_given(),
            1
        );
    }

    #[test]
    fn what_go_refuses_is_malformed() {
        for json in [
            "",
            "{",
            "{} x",
            "[]",
            "1",
            r#"{"user":1}"#,
            r#"{"verbose":"yes"}"#,
            r#"{"protocol":1.5}"#,
            "\u{feff}{}",
            r#"{"protocol":"1"}"#,
        ] {
            assert_eq!(
                Connect::parse(json.as_bytes()),
                Err(ConnectFault::Malformed),
                "{json}"
            );
        }
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(
            Connect::parse(deep.as_bytes()),
            Err(ConnectFault::Malformed)
        );
    }

    #[test]
    fn brackets_count_outside_strings_and_nowhere_else() {
        let many = "[".repeat(DEPTH_MAX + 1);
        for (json, deep) in [
            (format!(r#"{{"x":"{many}"}}"#), false),
            (format!(r#"{{"x":"\"{many}"}}"#), false),
            (format!(r#"{{"x":"\\"{many}"#), true),
            (format!(r#"{{"x":"a"{many}"#), true),
            (format!(r#"{{"x":"{many}"#), false),
            (format!(r#"{{"x":"\{many}"#), false),
            (r#"{"x":"\"#.to_owned(), false),
            (r#"{"x":""#.to_owned(), false),
            (many, true),
        ] {
            assert_eq!(nests_too_deep(json.as_bytes()), deep, "{json}");
        }
    }

    #[test]
    fn routes_and_leafs_are_recognised() {
        assert!(parse(r#"{"server_id":"N"}"#).inter_server);
        assert!(parse(r#"{"account":"A"}"#).account);
        assert!(parse(r#"{"new_account":true}"#).account);
        assert!(!parse(r#"{"account":""}"#).account);
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", parse(r#"{"auth_token":"sesame"}"#)).contains("sesame"));
    }
}
