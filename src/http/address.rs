//! Addresses that may be asked: https anywhere, plain http on this machine alone.

use std::net::IpAddr;

use reqwest::Url;

use super::clip;

/// An address that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Url);

/// Not an address that may be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: only https, or http to loopback, is fetched")]
pub struct Unfit(pub Box<str>);

impl Address {
    /// https, or http to loopback; without user and password.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        Self::fit(text, is_loopback)
    }

    /// As [`Address::parse`], and http to link-local IPv4 addresses too: the metadata services of clouds and containers
    /// are reached there, on a path that never leaves the host.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn parse_metadata(text: &str) -> Result<Self, Unfit> {
        Self::fit(text, |url| is_loopback(url) || is_link_local(url))
    }

    fn fit(text: &str, plain_may_go_to: impl Fn(&Url) -> bool) -> Result<Self, Unfit> {
        let refused = || Unfit(clip(text));
        let url = Url::parse(text).map_err(|_| refused())?;
        let fit = match url.scheme() {
            "https" => url.host_str().is_some(),
            "http" => plain_may_go_to(&url),
            _ => false,
        };
        let bare = url.username().is_empty() && url.password().is_none();
        if fit && bare {
            Ok(Self(url))
        } else {
            Err(refused())
        }
    }

    /// Another path on the same scheme, host and port: each segment is escaped, the query is emptied.
    #[must_use]
    pub fn at(&self, segments: &[&str]) -> Self {
        let mut url = self.0.clone();
        url.set_query(None);
        url.set_fragment(None);
        // An http or https URL always has segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        Self(url)
    }

    /// Where a `Location` seen at this address points (RFC 9110 section 10.2.2), by the same rules as any address.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn join(&self, location: &str) -> Result<Self, Unfit> {
        let joined = self.0.join(location).map_err(|_| Unfit(clip(location)))?;
        Self::parse(joined.as_str())
    }

    /// With a query parameter more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Whether both have the same scheme, host and port.
    #[must_use]
    pub fn same_host(&self, other: &Self) -> bool {
        self.0.scheme() == other.0.scheme()
            && self.0.host_str() == other.0.host_str()
            && self.0.port_or_known_default() == other.0.port_or_known_default()
    }

    /// The host; IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The segments of the path.
    pub fn segments(&self) -> Vec<&str> {
        self.0.path_segments().into_iter().flatten().collect()
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether it has neither query nor fragment.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.query().is_none() && self.0.fragment().is_none()
    }

    /// Whether it is scheme, host and port alone.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.is_plain() && self.0.path() == "/"
    }

    /// For messages, clipped.
    #[must_use]
    pub fn shown(&self) -> Box<str> {
        clip(self.0.as_str())
    }

    pub(super) fn is_near(&self) -> bool {
        is_loopback(&self.0) || is_link_local(&self.0)
    }

    pub(super) const fn url(&self) -> &Url {
        &self.0
    }
}

fn ip(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || ip(url).is_some_and(|ip| ip.is_loopback())
}

fn is_link_local(url: &Url) -> bool {
    matches!(ip(url), Some(IpAddr::V4(ip)) if ip.is_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_loopback_is_asked() {
        for good in [
            "https://login.example/x",
            "http://127.0.0.1:1/x",
            "http://[::1]:1/",
            "http://localhost/",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
            assert!(Address::parse_metadata(good).is_ok(), "{good}");
        }
        for bad in [
            "http://login.example/x",
            "http://127.0.0.1.evil.example/",
            "https://user@login.example/",
            "file:///etc/passwd",
            "not a url",
            "",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
            assert!(Address::parse_metadata(bad).is_err(), "{bad}");
        }
        assert!(Address::parse("http://169.254.169.254/").is_err());
        assert!(Address::parse_metadata("http://169.254.169.254/").is_ok());
        assert!(Address::parse_metadata("http://169.254.169.254.evil.example/").is_err());
        assert!(Address::parse_metadata("http://10.0.0.1/").is_err());
    }

    #[test]
    fn scheme_host_and_port_make_one_host() {
        let same = |a: &str, b: &str| {
            Address::parse(a)
                .unwrap()
                .same_host(&Address::parse(b).unwrap())
        };
        assert!(same("https://a.example/x", "https://a.example:443/y"));
        assert!(!same("https://a.example/x", "https://b.example/x"));
        assert!(!same("https://a.example/x", "https://a.example:444/x"));
        assert!(!same("http://127.0.0.1:1/", "http://127.0.0.1:2/"));
    }

    #[test]
    fn a_path_cannot_leave_its_segments() {
        let base = Address::parse("https://graph.example/old?x=1#y").unwrap();
        let address = base
            .at(&["v1.0", "users", "a/../../b?c#d"])
            .with("q", "1&2");
        assert_eq!(
            address.url().as_str(),
            "https://graph.example/v1.0/users/a%2F..%2F..%2Fb%3Fc%23d?q=1%262"
        );
        assert!(base.same_host(&address));
    }
}
