//! The corpus of hostile tokens as it is written: `tests/corpus/tokens.json`.
//!
//! Must never: make a token; the forge does.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The corpus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// What the file is.
    pub about: Vec<String>,
    /// Rows that are more than one token.
    pub scenes: Vec<Scene>,
    /// The tokens.
    pub tokens: Vec<Row>,
}

/// A row that is more than one token: a document of the issuer, a CONNECT, a sequence. The test that plays it knows its
/// words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// Number in the table of hostile tokens, perhaps with a letter.
    pub row: String,
    /// What is special about it.
    pub what: String,
    /// Which scene.
    pub scene: String,
    /// Its variant.
    #[serde(default)]
    pub with: Value,
    /// `accept`, `refuse`, `close` (without a word) or `keep` (what was held before).
    pub verdict: String,
    /// The code in the audit.
    #[serde(default)]
    pub code: Option<String>,
}

/// One token: how it is made, and what the gate must say of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Number in the table of hostile tokens with a letter, or `ok-` and a name for a control.
    pub row: String,
    /// What is special about it.
    pub what: String,
    /// The ordinary token to begin with: `v2-user`, `v2-app`, `v2-mi`, `v1-user`, `v1-app`, `oidc-user`, `oidc-app`.
    pub base: String,
    /// What is done to the header.
    #[serde(default)]
    pub header: Change,
    /// What is done to the payload.
    #[serde(default)]
    pub claims: Change,
    /// The key that signs: `current`, `next`, `foreign`, `cloud` (all published) or `attacker` (not published).
    #[serde(default)]
    pub key: Option<String>,
    /// How: `rs256`, `rs384`, `rs512`, `ps256`, `none`, `hs256-pem`, `hs256-der`, `hs256-modulus`.
    #[serde(default)]
    pub sign: Option<String>,
    /// What is done to the compact form, in order.
    #[serde(default)]
    pub wire: Vec<Wire>,
    /// The issuer that the token claims to be of, where it is not the development issuer: `b2c`, `external-id`, `usgov`.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What the listener expects, where it differs from its usual.
    #[serde(default)]
    pub listener: Listener,
    /// `accept` or `refuse`.
    pub verdict: String,
    /// The refusal's code.
    #[serde(default)]
    pub code: Option<String>,
    /// The code with which a policy refuses it that binds the roles of the directory.
    #[serde(default)]
    pub policy: Option<String>,
    /// `unknown` or `misnamed` where an accepted token must leave the groups unknown, or say that they are names.
    #[serde(default)]
    pub groups: Option<String>,
}

impl Row {
    /// The ordinary token of a user (`v2-user`), with these claims besides, which the gate must accept.
    #[must_use]
    pub fn of_user(row: &str, claims: Map<String, Value>) -> Self {
        Self {
            row: row.into(),
            what: String::new(),
            base: "v2-user".into(),
            header: Change::default(),
            claims: Change {
                set: claims,
                ..Change::default()
            },
            key: None,
            sign: None,
            wire: Vec::new(),
            issuer: None,
            listener: Listener::default(),
            verdict: "accept".into(),
            code: None,
            policy: None,
            groups: None,
        }
    }
}

/// What is done to a JSON object, first as a value and then as text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Members to set; null is a value. `{"$now": 30}` is the time in so many seconds, `{"$repeat": ["x", 3]}` a long
    /// string, `{"$list": [value, 3]}` a long array, `{"$guids": 3}` an array of GUIDs, `{"$nest": 3}` nested arrays,
    /// `{"$flip": "kid"}` a string of ours in the other case.
    pub set: Map<String, Value>,
    /// Members to remove.
    pub remove: Vec<String>,
    /// Text after the opening brace.
    pub prepend: String,
    /// Text before the closing brace.
    pub append: String,
    /// Text that takes the place of everything; `{json}` is what it was.
    pub text: Option<String>,
    /// A text that is replaced by one byte which is not UTF-8.
    pub break_utf8: Option<String>,
}

/// What is done to the compact form.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// Text before it.
    Prefix(String),
    /// Text after it.
    Suffix(String),
    /// Text in the place of everything.
    Whole(String),
    /// So many segments are kept.
    Keep(usize),
    /// Text inside the segment of this number, after its first four characters.
    Insert(usize, String),
    /// Every character so in the segment of this number becomes that one; the segment has at least one.
    Replace(usize, String, String),
    /// The signature loses so many characters.
    Truncate(usize),
    /// The last character of the signature gets bits that carry nothing.
    LooseBits,
    /// The signature of another token of the same key.
    BorrowSignature,
    /// The payload of another token under this signature.
    BorrowPayload,
    /// RFC 7515 section 7.2 in place of the compact form.
    JsonSerialization,
}

/// What the listener expects, where it differs from its usual.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// Whether v1.0 tokens are accepted.
    pub v1: bool,
    /// Whether people are accepted.
    pub users: bool,
    /// Whether people are accepted by an ID token too.
    pub id_tokens: bool,
    /// A scope that is required.
    pub scope: Option<String>,
    /// Thumbprint of the client's TLS certificate.
    pub thumbprint: Option<String>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            v1: true,
            users: true,
            id_tokens: false,
            scope: None,
            thumbprint: None,
        }
    }
}
