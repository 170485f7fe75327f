//! `upstreams`: the NATS servers behind us and who we are for them.
//!
//! Owns: their keys. Must never: hold a secret; credentials are references here.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::secret::SecretRef;
use super::words::{Either, word_or_mapping};

/// One server or cluster that shares an account.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Addresses, as `nats://10.0.0.11:4222`, or `tls://` where TLS is a must. At least one.
    pub servers: Vec<String>,
    /// Who we are for these servers; clients never see it. Without it, nobody in particular.
    #[serde(default)]
    pub auth: UpstreamAuth,
    /// Seed of the key with which we vouch for clients (`proxy_sig`), for servers from 2.12 with `proxies.trusted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_proxy_nkey: Option<SecretRef>,
    /// Whether the client's address is announced to the server, which must then expect it.
    #[serde(default)]
    pub proxy_protocol: UpstreamProxyProtocol,
    /// TLS towards the servers. Empty (`tls: {}`) trusts the machine's own CAs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

/// Credentials for an upstream.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum UpstreamAuth {
    /// The server asks for none.
    #[default]
    #[schemars(with = "NoAuth")]
    None,
    /// Exactly one method.
    Credentials(Box<Credentials>),
}

/// The methods, of which exactly one is given: `user` with `password`, `token`, `nkey` or `creds`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// User name; a reference, or the name itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Token (`auth_token`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// Seed of a user nkey, `SU...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<SecretRef>,
    /// A creds file: user JWT and seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creds: Option<SecretRef>,
}

/// The word `none`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum NoAuth {
    None,
}

impl<'de> Deserialize<'de> for UpstreamAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The found word is not shown: people write secrets here.
        let expected = "none, or one of { user: NAME, password: env:VARIABLE }, { token: file:PATH }, \
                        { nkey: file:PATH }, { creds: file:PATH }";
        Ok(match word_or_mapping(deserializer, expected)? {
            Either::Word(NoAuth::None) => Self::None,
            Either::Mapping(credentials) => Self::Credentials(credentials),
        })
    }
}

/// Whether a PROXY header is written to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProxyProtocol {
    /// No.
    #[default]
    Off,
    /// Version 2, for nats-server from 2.12.2 with `proxy_protocol: true`.
    V2,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// CAs to trust, in PEM. Without it, the machine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
    /// Our certificate chain in PEM, for servers with `verify: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretRef>,
    /// Its private key in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
    /// Whether the handshake comes before INFO (`handshake_first` of the server).
    pub first: TlsFirst,
    /// Name to check instead of the host of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// Whether the TLS handshake comes before INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsFirst {
    /// Found out by waiting a moment for INFO, and remembered.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
