//! Addresses of issuers as they are configured: what could never be the beginning of a token's `iss`, or would be
//! fetched in clear, is refused before anything starts.
//!
//! Must never: correct an address. A token's issuer is compared byte for byte.

use super::cloud::{self, is_guid};
use super::expectations::ExpectationsError;

/// Aliases of Entra in the place of a tenant.
pub(super) const ALIASES: [&str; 3] = ["common", "organizations", "consumers"];

/// The address of a document: https, or http to this machine, without user information and fragment.
pub(super) fn document(url: &str) -> Result<(), ExpectationsError> {
    let parts = Parts::of(url)?;
    match parts.rest.contains('#') {
        true => Err(unfit(
            url,
            "has a fragment (#), which is never sent; remove it",
        )),
        false => Ok(()),
    }
}

/// An `iss`, below which metadata is found (OpenID Connect Discovery 1.0 section 3): no query either.
pub(super) fn issuer(url: &str) -> Result<(), ExpectationsError> {
    document(url)?;
    match Parts::of(url)?.rest.contains('?') {
        true => Err(unfit(
            url,
            "has a query (?), which no issuer has; remove it",
        )),
        false => Ok(()),
    }
}

/// What stands before the tenant in addresses of Entra, External ID and B2C: of Microsoft's own scheme and host. One of
/// one's own may have a path, but none that has a tenant in it already.
pub(super) fn authority(url: &str) -> Result<(), ExpectationsError> {
    issuer(url)?;
    let Parts { host, path, .. } = Parts::of(url)?;
    let segments = || path.split('/').filter(|segment| !segment.is_empty());
    if let Some(alias) = segments().find(|segment| ALIASES.contains(segment)) {
        return Err(ExpectationsError::Alias(alias.into()));
    }
    let of_a_tenant = |segment: &str| {
        is_guid(&segment.to_ascii_lowercase())
            || matches!(segment, "v2.0" | "oauth2" | ".well-known")
    };
    let of_microsoft = cloud::cloud_of_host(host).is_some()
        || [".ciamlogin.com", ".b2clogin.com"]
            .iter()
            .any(|domain| host.ends_with(domain));
    let too_much = segments().any(of_a_tenant) || of_microsoft && segments().next().is_some();
    match too_much {
        true => Err(unfit(
            url,
            "has a path; write what stands before the tenant, as https://login.microsoftonline.com: the tenant is named \
             elsewhere",
        )),
        false => Ok(()),
    }
}

struct Parts<'a> {
    host: &'a str,
    path: &'a str,
    /// All that comes after scheme, host and port.
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, ExpectationsError> {
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            (None, None) => return Err(ExpectationsError::Address(url.into())),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            // What stands before it may be a password.
            return Err(ExpectationsError::Unfit(
                "an address with a user in it (@), which no issuer has; remove all between // and @".into(),
            ));
        }
        if !secure && !is_loopback(authority) {
            return Err(ExpectationsError::Address(url.into()));
        }
        if !is_host(authority) {
            return Err(unfit(
                url,
                "names no host; write it in lower case, as https://login.example.com",
            ));
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unfit(
                url,
                "has white space or letters outside ASCII in it; write them as %XX",
            ));
        }
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, _) = host_and_port(authority);
        Ok(Self { host, path, rest })
    }
}

fn unfit(url: &str, why: &str) -> ExpectationsError {
    ExpectationsError::Unfit(format!("'{url}' {why}").into())
}

/// The host of `host[:port]`; of IPv6 what stands in the brackets.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, after)) = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        // What is no port stays one that nobody can read.
        let port = after.strip_prefix(':').or(Some(after));
        return (host, port.filter(|port| !port.is_empty() || after == ":"));
    }
    match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

/// Whether it names this machine by a literal address or as `localhost`.
fn is_loopback(authority: &str) -> bool {
    let (host, _) = host_and_port(authority);
    let literal = host.parse::<std::net::IpAddr>();
    host == "localhost" || literal.is_ok_and(|ip| ip.is_loopback())
}

/// A name or an address, in the spelling of tokens, and perhaps a port.
fn is_host(authority: &str) -> bool {
    let (host, port) = host_and_port(authority);
    let plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let named = !host.is_empty() && host.bytes().all(plain);
    let good = match authority.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => named,
    };
    good && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 7] = [
        "https://a.example",
        "https://a.example/",
        "https://a.example:8443",
        "https://10.0.0.1",
        "http://127.0.0.1:9333",
        "http://[::1]:1",
        "http://localhost",
    ];

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for good in GOOD {
            for judge in [document, issuer, authority] {
                assert_eq!(judge(good), Ok(()), "{good}");
            }
        }
        for bad in [
            "http://a.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example/",
            "ftp://127.0.0.1",
            "HTTPS://a.example",
            "a.example",
            "",
        ] {
            for judge in [document, issuer, authority] {
                assert!(
                    matches!(judge(bad), Err(ExpectationsError::Address(_))),
                    "{bad}"
                );
            }
        }
    }

    #[test]
    fn what_no_issuer_has_is_told_apart() {
        for (bad, words) in [
            ("https://", "names no host"),
            ("https:///x", "names no host"),
            ("https://A.example", "lower case"),
            ("https://a.example:http", "names no host"),
            ("https://[::1", "names no host"),
            ("https://[::1]x", "names no host"),
            ("https://[::1]:", "names no host"),
            ("https://a.example:", "names no host"),
            ("https://a example", "names no host"),
            ("https://a.example/x y", "white space"),
            ("https://a.example#x", "fragment"),
            ("https://me:hunter2@a.example", "a user in it"),
            ("http://127.0.0.1@evil.example", "a user in it"),
        ] {
            for judge in [document, issuer, authority] {
                let error = judge(bad).unwrap_err().to_string();
                assert!(
                    error.contains(words) && !error.contains("hunter2"),
                    "{bad}: {error}"
                );
            }
        }
        assert_eq!(document("https://a.example/keys?p=1"), Ok(()));
        assert!(issuer("https://a.example/x?p=1").is_err());
        assert_eq!(issuer("https://a.example/realms/x"), Ok(()));
        for bad in [
            "https://a.example/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11",
            "https://a.example/7A1D0C52-3F0E-4F2B-9D57-0B6F5F1C2E11/v2.0",
            "https://a.example/adfs/oauth2",
            "https://a.example/v2.0/.well-known/openid-configuration",
            "https://login.microsoftonline.com/contoso.onmicrosoft.com",
            "https://login.microsoftonline.us//x",
            "https://contoso.ciamlogin.com/contoso.onmicrosoft.com",
            "https://contoso.b2clogin.com/contoso.onmicrosoft.com",
        ] {
            let error = authority(bad).unwrap_err();
            assert!(error.to_string().contains("has a path"), "{error}");
        }
        // Behind a proxy of one's own.
        assert_eq!(authority("https://login.contoso.example/b2c"), Ok(()));
        for alias in ALIASES {
            for path in ["", "/", "/v2.0", "/oauth2/v2.0/token"] {
                let error = authority(&format!("https://login.microsoftonline.com/{alias}{path}"));
                assert_eq!(error, Err(ExpectationsError::Alias(alias.into())));
            }
        }
    }
}
