//! `listen` and `admin`: where others reach us.
//!
//! Owns: their keys. Must never: bind anything.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::secret::SecretRef;
use super::words::{Address, Either, Reserved, word_or_mapping};
use crate::policy::units::{Cidr, HumanDuration};

/// Where clients connect.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port for NATS clients.
    pub client: Address,
    /// TLS towards clients. Without it tokens travel in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenTls>,
    /// Whether load balancers in front of us announce the client's address (PROXY protocol v1 and v2).
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Not available in this version.
    #[serde(default, skip_serializing)]
    pub websocket: Option<Reserved>,
}

/// TLS towards clients.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// Certificate chain in PEM, own certificate first. Needed unless `mode: off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretRef>,
    /// Its private key in PEM. Needed unless `mode: off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
    /// How TLS begins.
    #[serde(default)]
    pub mode: TlsMode,
    /// CAs in PEM; clients must then present a certificate that one of them signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<SecretRef>,
    /// With `mode: auto`, how long a new connection may take to begin with TLS before INFO is sent.
    #[serde(default = "first_wait")]
    pub first_wait: HumanDuration,
}

const fn first_wait() -> HumanDuration {
    HumanDuration::new(std::time::Duration::from_millis(50))
}

/// How TLS towards clients begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// No TLS.
    Off,
    /// After INFO, as nats-server does by default. Clients must use it.
    Required,
    /// After INFO or before it (`tls_handshake_first`), as each client likes. Clients must use it.
    #[default]
    Auto,
}

/// PROXY protocol from load balancers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ProxyProtocol {
    /// Headers are not expected; one would be refused as malformed input.
    #[default]
    #[schemars(with = "Off")]
    Off,
    /// Headers are read from trusted addresses.
    Trusted(TrustedProxies),
}

/// Who may announce client addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedProxies {
    /// Whether a trusted address may leave the header out.
    pub mode: ProxyProtocolMode,
    /// Addresses of the load balancers. Connections from elsewhere are taken as they are.
    #[serde(default)]
    pub trusted: Vec<Cidr>,
}

/// Whether a PROXY header may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocolMode {
    /// No header is read.
    Off,
    /// A trusted address may send a header.
    Accept,
    /// A trusted address must send a header, and nobody else may connect.
    Require,
}

/// The word `off`.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "exists for the schema")]
enum Off {
    Off,
}

impl<'de> Deserialize<'de> for ProxyProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "off, or { mode: accept, trusted: [10.0.0.0/8] }";
        Ok(match word_or_mapping(deserializer, expected)? {
            Either::Mapping(TrustedProxies {
                mode: ProxyProtocolMode::Off,
                ..
            })
            | Either::Word(ProxyProtocolMode::Off) => Self::Off,
            // Without trusted ranges: the check says so, at the right place.
            Either::Word(mode) => Self::Trusted(TrustedProxies {
                mode,
                trusted: Vec::new(),
            }),
            Either::Mapping(trusted) => Self::Trusted(trusted),
        })
    }
}

/// Metrics and health.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port of the HTTP listener. It is read-only and knows no login: keep it off public networks.
    pub listen: Address,
}
