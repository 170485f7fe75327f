//! `upstreams`: addresses, credentials and trust for each.

use rustls_pki_types::ServerName;

use super::super::document::{
    Credentials, Document, TlsFirst as Word, Upstream, UpstreamAuth, UpstreamProxyProtocol,
};
use super::super::mistake::REFERENCE_SCHEMES;
use super::super::secret::SecretRef;
use super::{Context, blamed};
use crate::secret::Secret;
use crate::tls::{ClientIdentity, client_config};
use crate::upstream::{Auth, ConfigError, Scheme, ServerUrl, TlsDial, TlsFirst, UpstreamConfig};

pub(super) fn resolve(context: &mut Context<'_>, document: &Document) -> Vec<UpstreamConfig> {
    if document.upstreams.is_empty() && !context.lost_something(&["upstreams"]) {
        context.mistake(
            &["upstreams"],
            "there is no upstream; write `upstreams: { main: { servers: [nats://10.0.0.11:4222] } }`",
        );
    }
    document
        .upstreams
        .iter()
        .map(|(name, written)| {
            let mut config = UpstreamConfig::new(name.as_str(), servers(context, name, written));
            config.proxy_protocol = written.proxy_protocol == UpstreamProxyProtocol::V2;
            config.dial_timeout = document.limits.dial.get();
            config.tls = tls(context, name, written);
            config.auth = auth(context, name, written);
            config.trusted_proxy_nkey = trusted_proxy(context, name, written);
            config
        })
        .collect()
}

fn servers(context: &mut Context<'_>, name: &str, written: &Upstream) -> Vec<ServerUrl> {
    if !is_name(name) {
        context.mistake(
            &["upstreams", name],
            "a name is 1 to 64 letters, digits, `-` and `_`, since it is a metric label too",
        );
    }
    let list = ["upstreams", name, "servers"];
    if written.servers.is_empty() {
        context.mistake(
            &list,
            "at least one server is needed; write `[nats://10.0.0.11:4222]`",
        );
    }
    let mut urls: Vec<ServerUrl> = Vec::new();
    for (index, text) in written.servers.iter().enumerate() {
        let index = index.to_string();
        let path = ["upstreams", name, "servers", &index];
        match text.parse::<ServerUrl>() {
            Ok(url) if urls.contains(&url) => {
                context.mistake(&path, format!("{url} is listed twice; keep one"));
            }
            Ok(url) => {
                if url.scheme == Scheme::Tls
                    && written.tls.is_none()
                    && !context.lost_something(&["upstreams", name, "tls"])
                {
                    context.mistake(
                        &path,
                        format!("{url} needs a `tls` section; write `tls: {{}}` to trust the machine's own CAs"),
                    );
                }
                urls.push(url);
            }
            Err(error) => context.mistake(&path, error.to_string()),
        }
    }
    urls
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn tls(context: &mut Context<'_>, name: &str, written: &Upstream) -> Option<TlsDial> {
    let tls = written.tls.as_ref()?;
    let all = ["upstreams", name, "tls"];
    let at = |key| ["upstreams", name, "tls", key];
    let (ca_path, cert_path, key_path) = (at("ca"), at("cert"), at("key"));
    for (given, missing) in [("cert", "key"), ("key", "cert")] {
        let value = |key| if key == "cert" { &tls.cert } else { &tls.key };
        if value(given).is_some() && value(missing).is_none() {
            context.mistake(
                &at(given),
                format!("`{given}` without `{missing}` proves nothing; set both or none"),
            );
        }
    }
    let server_name = tls.server_name.as_ref().and_then(|text| {
        ServerName::try_from(text.clone())
            .inspect_err(|_| {
                context.mistake(
                    &at("server_name"),
                    format!("`{text}` is neither a host name nor an address"),
                );
            })
            .ok()
    });
    let before = context.mistakes.len();
    let ca = context.pem(&ca_path, tls.ca.as_ref());
    let cert = context.pem(&cert_path, tls.cert.as_ref());
    let key = context.pem(&key_path, tls.key.as_ref());
    if context.mistakes.len() > before {
        return None;
    }
    let identity = cert
        .as_ref()
        .zip(key.as_ref())
        .map(|(cert, key)| ClientIdentity { cert, key });
    match client_config(ca.as_ref(), identity) {
        Ok(config) => Some(TlsDial {
            config,
            server_name,
            first: match tls.first {
                Word::Auto => TlsFirst::Auto,
                Word::Always => TlsFirst::Yes,
                Word::Never => TlsFirst::No,
            },
        }),
        Err(error) => {
            let candidates: [(_, &[&str]); 3] = [
                (ca.as_ref(), &ca_path),
                (cert.as_ref(), &cert_path),
                (key.as_ref(), &key_path),
            ];
            let path = blamed(&error, &candidates, &all);
            context.mistake(path, error.to_string());
            None
        }
    }
}

fn auth(context: &mut Context<'_>, name: &str, written: &Upstream) -> Auth {
    let UpstreamAuth::Credentials(given) = &written.auth else {
        return Auth::None;
    };
    let method = one_method(context, name, given);
    let mut secret = |key, reference: &Option<SecretRef>| {
        let resolved = context.secret(&["upstreams", name, "auth", key], reference.as_ref()?)?;
        Some(resolved.secret)
    };
    let password = secret("password", &given.password);
    let token = secret("token", &given.token);
    let nkey = secret("nkey", &given.nkey);
    let creds = secret("creds", &given.creds);
    let user = given
        .user
        .as_ref()
        .and_then(|text| user_name(context, name, text));
    let Some(method) = method else {
        return Auth::None;
    };
    let auth = match (user, password, token, nkey, creds) {
        (Some(user), Some(password), ..) => Auth::UserPassword { user, password },
        (_, _, Some(token), ..) => Auth::Token(token),
        (_, _, _, Some(seed), _) => Auth::Nkey(seed),
        (_, _, _, _, Some(creds)) => Auth::Creds(creds),
        _ => return Auth::None,
    };
    let probe = UpstreamConfig {
        auth: auth.clone(),
        ..probe(name)
    };
    if let Some(problem) = credentials_problem(&probe) {
        context.mistake(&["upstreams", name, "auth", method], problem);
    }
    auth
}

/// The key of the one method that is given, whole; none, and a mistake, where it is not one.
fn one_method(context: &mut Context<'_>, name: &str, given: &Credentials) -> Option<&'static str> {
    let all = ["upstreams", name, "auth"];
    let methods = methods(given);
    if methods.is_empty() && !context.lost_something(&all) {
        context.mistake(
            &all,
            "no method is given; write { user: NAME, password: file:PATH }, { token: file:PATH }, \
             { nkey: file:PATH }, { creds: file:PATH } or none",
        );
    }
    if methods.len() > 1 {
        let count = methods.len();
        let listed = methods.join(" and ");
        context.mistake(
            &all,
            format!("{listed} are {count} methods at once; keep one"),
        );
    }
    let (user, password) = (given.user.is_some(), given.password.is_some());
    let half = match (user, password) {
        (true, false) => Some(("user", "password")),
        (false, true) => Some(("password", "user")),
        _ => None,
    };
    if let Some((half, missing)) = half
        && !context.lost_something(&["upstreams", name, "auth", missing])
    {
        context.mistake(
            &["upstreams", name, "auth", half],
            format!("`{half}` needs `{missing}` beside it"),
        );
    }
    match methods.as_slice() {
        [one] => Some(one),
        _ => None,
    }
}

fn methods(given: &Credentials) -> Vec<&'static str> {
    [
        ("user", given.user.is_some()),
        ("password", given.password.is_some() && given.user.is_none()),
        ("token", given.token.is_some()),
        ("nkey", given.nkey.is_some()),
        ("creds", given.creds.is_some()),
    ]
    .into_iter()
    .filter_map(|(method, given)| given.then_some(method))
    .collect()
}

/// A user name is no secret: it may stand in the file, or behind a reference.
fn user_name(context: &mut Context<'_>, name: &str, text: &str) -> Option<Secret> {
    if !REFERENCE_SCHEMES
        .iter()
        .any(|scheme| text.starts_with(scheme))
    {
        return Some(Secret::new(text));
    }
    let reference = SecretRef::from(text);
    Some(
        context
            .secret(&["upstreams", name, "auth", "user"], &reference)?
            .secret,
    )
}

fn trusted_proxy(context: &mut Context<'_>, name: &str, written: &Upstream) -> Option<Secret> {
    let path = ["upstreams", name, "trusted_proxy_nkey"];
    let seed = context
        .secret(&path, written.trusted_proxy_nkey.as_ref()?)?
        .secret;
    let probe = UpstreamConfig {
        trusted_proxy_nkey: Some(seed.clone()),
        ..probe(name)
    };
    if let Some(problem) = credentials_problem(&probe) {
        context.mistake(&path, problem);
    }
    Some(seed)
}

/// An upstream that has nothing wrong with it yet, so that one credential can be tried alone.
fn probe(name: &str) -> UpstreamConfig {
    let server = ServerUrl {
        scheme: Scheme::Nats,
        host: "localhost".to_owned(),
        port: 4222,
    };
    UpstreamConfig::new(name, vec![server])
}

fn credentials_problem(probe: &UpstreamConfig) -> Option<String> {
    match probe.check() {
        Err(ConfigError::Credentials { problem, .. }) => Some(problem),
        Err(other) => Some(other.to_string()),
        Ok(()) => None,
    }
}
