//! `entra` and `issuers`: whose tokens are accepted.
//!
//! Owns: their keys. Must never: fetch anything.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::graph::Graph;
use super::words::{Either, word_or_mapping};
use crate::policy::document::{OneOrMany, one_or_many};
use crate::policy::units::HumanDuration;

/// Microsoft Entra ID.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entra {
    /// Which Microsoft cloud.
    #[serde(default)]
    pub cloud: Cloud,
    /// Tenant ids (GUIDs) whose tokens are accepted; no aliases such as `common`.
    pub tenants: Vec<String>,
    /// What tokens must be for: the application id (v2.0 tokens) and the App ID URI (v1.0 tokens) of our registration.
    pub audiences: Vec<String>,
    /// Whose tokens are accepted: people, applications or both.
    #[serde(default = "both")]
    pub accept: Vec<Accepted>,
    /// What the entries of the `groups` claim are. `ids` unless the registration was made to emit names.
    #[serde(default)]
    pub groups: GroupForm,
    /// Whether v1.0 access tokens are accepted beside v2.0. Registrations emit v1.0 unless
    /// `requestedAccessTokenVersion` is 2.
    #[serde(default)]
    pub v1_tokens: bool,
    /// The longest a session may live; never longer than its token. Without it the token alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session: Option<HumanDuration>,
    /// A delegated scope that tokens of people must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_scope: Option<String>,
    /// Application id under which keys are asked for; needed only where claims mapping gave the registration a signing
    /// key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_app_id: Option<String>,
    /// Groups that are not in tokens, looked up in Microsoft Graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Graph>,
}

/// Another issuer: an OpenID Connect one, another Microsoft cloud, External ID, Azure AD B2C, or one that plays Entra in
/// development.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The `iss` of its tokens, exactly. For the Microsoft profiles the authority, which stands before the tenant:
    /// `https://login.microsoftonline.us`, `https://contoso.ciamlogin.com`, `https://contoso.b2clogin.com`, or a domain of
    /// one's own. Plain http is accepted on loopback addresses only.
    pub issuer: String,
    /// What tokens must be for.
    pub audiences: Vec<String>,
    /// Where its keys are.
    #[serde(default)]
    pub jwks: KeySource,
    /// The tenant id (GUID) whose tokens are accepted, for the Microsoft profiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Which claims are expected.
    #[serde(default)]
    pub profile: Profile,
    /// Whether v1.0 tokens are accepted too, for `profile: entra`.
    #[serde(default)]
    pub v1_tokens: bool,
    /// User flows and custom policies whose tokens are accepted, for `profile: b2c`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Application id under which keys are asked for, for `profile: entra` and `external-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_app_id: Option<String>,
    /// Where tokens hold their roles, for `profile: oidc`: a claim, or the names from the payload down to it, as
    /// `[realm_access, roles]`. Without it `roles`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub roles_claim: Vec<String>,
    /// What the entries of the `groups` claim are.
    #[serde(default)]
    pub groups: GroupForm,
    /// Whose tokens are accepted: people, applications or both.
    #[serde(default = "both")]
    pub accept: Vec<Accepted>,
    /// The longest a session may live; never longer than its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session: Option<HumanDuration>,
    /// A delegated scope that tokens of people must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_scope: Option<String>,
}

fn both() -> Vec<Accepted> {
    vec![Accepted::User, Accepted::App]
}

/// Whose tokens are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accepted {
    /// People, by an access token.
    User,
    /// Applications, managed identities and agents, by an access token.
    App,
    /// People, by the ID token of a sign-in at our own registration, which is meant for the application that asked for it.
    IdToken,
}

/// What the entries of the `groups` claim are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupForm {
    /// Object ids; bound by `group`.
    #[default]
    Ids,
    /// Names, taken at their word; bound by `group_name`.
    Names,
}

/// Which claims the tokens of an issuer have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Those of Entra: `tid`, `oid`, `ver`, `azp` or `appid`.
    Entra,
    /// Those of Entra External ID (CIAM): as of Entra, v2.0 alone; the issuer's host is the tenant id.
    ExternalId,
    /// Those of Azure AD B2C: a policy (`tfp`), and perhaps neither `tid` nor `oid`.
    B2c,
    /// Those of any OpenID Connect issuer: `sub`, and the identity is `(issuer, sub)`.
    #[default]
    Oidc,
}

/// Which Microsoft cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Cloud {
    /// One of the known ones.
    Named(CloudName),
    /// Another one, by its addresses.
    Custom(CustomCloud),
}

impl Default for Cloud {
    fn default() -> Self {
        Self::Named(CloudName::Public)
    }
}

/// The known clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CloudName {
    /// The worldwide cloud: login.microsoftonline.com.
    Public,
    /// US Government, GCC High: login.microsoftonline.us and graph.microsoft.us.
    Usgov,
    /// US Government, DoD: login.microsoftonline.us and dod-graph.microsoft.us.
    UsgovDod,
    /// China, operated by 21Vianet: login.partner.microsoftonline.cn.
    China,
}

/// A cloud by its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomCloud {
    /// The login host, as `https://login.microsoftonline.com`.
    pub authority: String,
    /// The Graph host, as `https://graph.microsoft.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
}

impl<'de> Deserialize<'de> for Cloud {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "public, usgov, usgov-dod, china, or { authority: https://login.example.com } for another cloud";
        Ok(match word_or_mapping(deserializer, expected)? {
            Either::Word(name) => Self::Named(name),
            Either::Mapping(custom) => Self::Custom(custom),
        })
    }
}

/// Where the signing keys of an issuer are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// Named by `<issuer>/.well-known/openid-configuration`.
    #[default]
    Discover,
    /// At this address.
    Url(String),
}

impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = KeySource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("discover, or the address of the key set such as https://login.example.com/keys")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeySource, E> {
                match text {
                    "discover" => Ok(KeySource::Discover),
                    url if url.starts_with("https://") || url.starts_with("http://") => {
                        Ok(KeySource::Url(url.to_owned()))
                    }
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for KeySource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Discover => "discover",
            Self::Url(url) => url,
        })
    }
}

impl JsonSchema for KeySource {
    fn schema_name() -> Cow<'static, str> {
        "KeySource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(discover|https?://.+)$",
            "description": "`discover`, or the address of the key set",
        })
    }
}
