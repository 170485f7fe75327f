//! What an upstream is made of, as plain values. Reads no file and resolves no secret reference.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::credentials::Credentials;
use crate::secret::Secret;

/// One upstream: the servers that share an account, and how we speak to them.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The name that roles refer to.
    pub name: Arc<str>,
    /// At least one.
    pub servers: Vec<ServerUrl>,
    /// Who we are for these servers. Clients never see it.
    pub auth: Auth,
    /// Seed with which `proxy_sig` is made, for servers from 2.12 with `proxies.trusted` (ADR-55).
    pub trusted_proxy_nkey: Option<Secret>,
    /// Whether a PROXY v2 header with the client's address is written first. The server must have
    /// `proxy_protocol: true` (2.12.2; with TLS 2.12.9 or 2.14.1).
    pub proxy_protocol: bool,
    /// TLS, required for servers written as `tls://`.
    pub tls: Option<TlsDial>,
    /// For a whole dial, all servers together. [`DEFAULT_DIAL_TIMEOUT`] unless there is a reason.
    pub dial_timeout: Duration,
}

/// TLS towards the servers of one upstream.
#[derive(Clone)]
pub struct TlsDial {
    /// Trust, our own certificate, resumption.
    pub config: Arc<ClientConfig>,
    /// Name to ask for and to check instead of the host of the URL.
    pub server_name: Option<ServerName<'static>>,
    /// Whether the handshake comes before INFO.
    pub first: TlsFirst,
}

/// Whether the TLS handshake comes before INFO (`tls { handshake_first }` of nats-server).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsFirst {
    /// Found out by waiting a moment for INFO, and remembered per server.
    #[default]
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

/// Credentials for CONNECT.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// `user` and `pass`. The server may hold the password as bcrypt.
    UserPassword {
        /// User name.
        user: Secret,
        /// Password in clear.
        password: Secret,
    },
    /// `auth_token`.
    Token(Secret),
    /// A user nkey by its seed, `SU...`.
    Nkey(Secret),
    /// The content of a creds file: a user JWT and, unless that is a bearer JWT, a seed.
    Creds(Secret),
    /// None: a server without authorization, `no_auth_user`, or `verify_and_map` certificates.
    #[default]
    None,
}

/// Address of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    /// Whether TLS is demanded.
    pub scheme: Scheme,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Scheme of a [`ServerUrl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `nats://`: TLS when the server requires it and `tls` is configured, plain otherwise.
    Nats,
    /// `tls://`: never a credential without TLS.
    Tls,
}

/// Why an upstream cannot be set up. Sentences for the operator; no secret in them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A server address that is not one.
    #[error("server address `{url}`: {problem}; write nats://host:4222 or tls://host:4222")]
    Url {
        /// As written, without what stood before an `@`.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// No server.
    #[error("upstream `{upstream}` has no servers; list at least one under `servers`")]
    NoServers {
        /// Its name.
        upstream: String,
    },
    /// Two upstreams of one name.
    #[error("there are two upstreams named `{upstream}`; names must differ")]
    Duplicate {
        /// The name.
        upstream: String,
    },
    /// TLS demanded without configuration.
    #[error(
        "upstream `{upstream}` has {server} and no `tls` section; add one (empty for the machine's own CAs)"
    )]
    TlsMissing {
        /// Its name.
        upstream: String,
        /// The server.
        server: String,
    },
    /// Credentials that cannot be used.
    #[error("upstream `{upstream}`: {problem}")]
    Credentials {
        /// Its name.
        upstream: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Time for a whole dial unless configured.
pub const DEFAULT_DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Port of a server address without one.
const DEFAULT_PORT: u16 = 4222;

impl UpstreamConfig {
    /// An upstream without credentials, TLS or PROXY header, to be filled in.
    pub fn new(name: impl Into<Arc<str>>, servers: Vec<ServerUrl>) -> Self {
        Self {
            name: name.into(),
            servers,
            auth: Auth::None,
            trusted_proxy_nkey: None,
            proxy_protocol: false,
            tls: None,
            dial_timeout: DEFAULT_DIAL_TIMEOUT,
        }
    }

    /// Everything that can be known to be wrong without a connection: the check of `natsentry check`.
    ///
    /// # Errors
    /// The first mistake, with what to do about it.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.prepare().map(drop)
    }

    /// Checks, and reads keys out of the credentials.
    pub(super) fn prepare(&self) -> Result<Credentials, ConfigError> {
        let upstream = || self.name.to_string();
        if self.servers.is_empty() {
            return Err(ConfigError::NoServers {
                upstream: upstream(),
            });
        }
        for server in &self.servers {
            if server.scheme == Scheme::Tls && self.tls.is_none() {
                return Err(ConfigError::TlsMissing {
                    upstream: upstream(),
                    server: server.to_string(),
                });
            }
        }
        Credentials::prepare(&self.auth, self.trusted_proxy_nkey.as_ref()).map_err(|problem| {
            ConfigError::Credentials {
                upstream: upstream(),
                problem: problem.to_string(),
            }
        })
    }
}

impl FromStr for ServerUrl {
    type Err = ConfigError;

    /// `nats://host[:port]`, `tls://host[:port]` or `host[:port]`; IPv6 addresses in brackets.
    fn from_str(url: &str) -> Result<Self, ConfigError> {
        let shown = url.rsplit('@').next().unwrap_or_default();
        let wrong = |problem| ConfigError::Url {
            url: shown.to_owned(),
            problem,
        };
        let (scheme, rest) = match url.split_once("://") {
            None => (Scheme::Nats, url),
            Some(("nats", rest)) => (Scheme::Nats, rest),
            Some(("tls", rest)) => (Scheme::Tls, rest),
            Some(_) => return Err(wrong("the scheme is neither nats nor tls")),
        };
        if rest.contains('@') {
            return Err(wrong(
                "credentials do not belong in the address; set them under `auth`",
            ));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) =
            split_port(rest).ok_or_else(|| wrong("the IPv6 address is not closed by ]"))?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or_else(|| wrong("the port is not a number from 1 to 65535"))?,
        };
        if ServerName::try_from(host).is_err() {
            return Err(wrong("the host is neither a name nor an address"));
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
        })
    }
}

/// Host and port. None when a bracket is open.
fn split_port(rest: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = rest.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let _: Ipv6Addr = host.parse().ok()?;
        return match after {
            "" => Some((host, None)),
            _ => Some((host, Some(after.strip_prefix(':')?))),
        };
    }
    match rest.rsplit_once(':') {
        // More than one colon without brackets: a bare IPv6 address.
        Some((host, _)) if host.contains(':') => Some((rest, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((rest, None)),
    }
}

impl ServerUrl {
    /// The host as an address, where it is one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Nats => "nats",
            Scheme::Tls => "tls",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for TlsDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsDial")
            .field("server_name", &self.server_name)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (Scheme, String, u16) {
        let url: ServerUrl = url.parse().unwrap();
        (url.scheme, url.host, url.port)
    }

    #[test]
    fn addresses_with_and_without_scheme_and_port_are_read() {
        assert_eq!(
            parsed("nats://a.example:4333"),
            (Scheme::Nats, "a.example".into(), 4333)
        );
        assert_eq!(
            parsed("tls://10.0.0.1"),
            (Scheme::Tls, "10.0.0.1".into(), 4222)
        );
        assert_eq!(parsed("host"), (Scheme::Nats, "host".into(), 4222));
        assert_eq!(
            parsed("nats://[::1]:4222/"),
            (Scheme::Nats, "::1".into(), 4222)
        );
        assert_eq!(
            parsed("nats://fe80::1"),
            (Scheme::Nats, "fe80::1".into(), 4222)
        );
        let shown: ServerUrl = "tls://[::1]:99".parse().unwrap();
        assert_eq!(shown.to_string(), "tls://[::1]:99");
    }

    #[test]
    fn addresses_that_are_none_are_refused_without_showing_a_password() {
        for url in [
            "",
            "nats://",
            "ws://a",
            "nats://a:0",
            "nats://a:70000",
            "nats://a b",
            "nats://[::1",
            "nats://a/b",
            "nats://[x]:1",
        ] {
            assert!(url.parse::<ServerUrl>().is_err(), "{url}");
        }
        let error = "nats://me:hunter2@host:1"
            .parse::<ServerUrl>()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("auth") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn an_upstream_without_servers_or_with_tls_but_no_tls_section_is_refused() {
        let none = UpstreamConfig::new("a", vec![]);
        assert!(matches!(none.check(), Err(ConfigError::NoServers { .. })));
        let tls = UpstreamConfig::new("a", vec!["tls://h".parse().unwrap()]);
        assert!(matches!(tls.check(), Err(ConfigError::TlsMissing { .. })));
        let plain = UpstreamConfig::new("a", vec!["nats://h".parse().unwrap()]);
        assert_eq!(plain.check(), Ok(()));
    }
}
