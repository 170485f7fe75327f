//! The Microsoft clouds: where their tokens come from and what their issuers look like.
//!
//! Source: Microsoft's national cloud documentation; what could not be confirmed can be overridden in the configuration
//! and is checked against the discovery metadata at run time.

/// One cloud, or an Entra look-alike with an authority of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Name for messages.
    pub name: Box<str>,
    /// Scheme, host and port of the authority, without a final slash.
    pub authority: Box<str>,
    /// `iss` of v2.0 tokens, with `{tenantid}`.
    pub v2_issuer: Box<str>,
    /// `iss` of v1.0 tokens, with `{tenantid}`.
    pub v1_issuer: Box<str>,
}

impl Cloud {
    /// Entra ID for everyone, and US Government GCC "low".
    pub fn public() -> Self {
        Self::known(
            "public",
            "https://login.microsoftonline.com",
            "https://sts.windows.net",
        )
    }

    /// US Government GCC High and DoD.
    pub fn us_government() -> Self {
        Self::known(
            "usgov",
            "https://login.microsoftonline.us",
            "https://sts.windows.net",
        )
    }

    /// China, operated by 21Vianet.
    pub fn china() -> Self {
        Self::known(
            "china",
            "https://login.partner.microsoftonline.cn",
            "https://sts.chinacloudapi.cn",
        )
    }

    /// An authority that is shaped like Entra: `<authority>/<tid>/v2.0` issues v2.0, `<authority>/<tid>/` v1.0 tokens.
    pub fn custom(authority: &str) -> Self {
        let authority = authority.trim_end_matches('/');
        Self::known("custom", authority, authority)
    }

    /// The cloud of a configuration word.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "public" => Some(Self::public()),
            "usgov" => Some(Self::us_government()),
            "china" => Some(Self::china()),
            _ => None,
        }
    }

    fn known(name: &str, authority: &str, v1_base: &str) -> Self {
        Self {
            name: name.into(),
            authority: authority.into(),
            v2_issuer: format!("{authority}/{TENANT}/v2.0").into(),
            v1_issuer: format!("{v1_base}/{TENANT}/").into(),
        }
    }

    /// `iss` of v2.0 tokens of a tenant.
    pub fn v2_issuer_of(&self, tid: &str) -> Box<str> {
        fill(&self.v2_issuer, tid).into()
    }

    /// `iss` of v1.0 tokens of a tenant.
    pub fn v1_issuer_of(&self, tid: &str) -> Box<str> {
        fill(&self.v1_issuer, tid).into()
    }
}

/// Puts a tenant in the place of `{tenantid}`.
pub(crate) fn fill(template: &str, tid: &str) -> String {
    template.replace(TENANT, tid)
}

/// The tenant that a template leaves in `text`, if the text fits the template and the tenant is a canonical GUID.
pub(crate) fn tenant_in<'a>(text: &'a str, template: &str) -> Option<&'a str> {
    let (before, _) = template.split_once(TENANT)?;
    let tid = text.strip_prefix(before)?.get(..36)?;
    (is_guid(tid) && fill(template, tid) == text).then_some(tid)
}

/// The name of the Microsoft cloud that a host belongs to, for messages.
pub(crate) fn cloud_of_host(host: &str) -> Option<&'static str> {
    match host {
        "login.microsoftonline.com" | "sts.windows.net" | "login.windows.net" => Some("public"),
        "login.microsoftonline.us" => Some("US Government (usgov)"),
        "login.partner.microsoftonline.cn" | "login.chinacloudapi.cn" | "sts.chinacloudapi.cn" => {
            Some("China (china)")
        }
        "login.microsoftonline.de" | "sts.microsoftonline.de" => Some("Germany (closed)"),
        _ => None,
    }
}

/// The Microsoft API that an audience names, for messages.
pub(crate) fn microsoft_api(audience: &str) -> Option<&'static str> {
    match audience.trim_end_matches('/') {
        "00000003-0000-0000-c000-000000000000"
        | "https://graph.microsoft.com"
        | "https://graph.microsoft.us"
        | "https://dod-graph.microsoft.us"
        | "https://microsoftgraph.chinacloudapi.cn" => Some("Microsoft Graph"),
        "00000002-0000-0000-c000-000000000000" | "https://graph.windows.net" => {
            Some("Azure AD Graph")
        }
        "797f4846-ba00-4fd7-ba43-dac1f8f63013"
        | "https://management.azure.com"
        | "https://management.core.windows.net"
        | "https://management.usgovcloudapi.net"
        | "https://management.chinacloudapi.cn" => Some("Azure Resource Manager"),
        "cfa8b339-82a2-471a-a3c9-0fc0be7a4093" | "https://vault.azure.net" => {
            Some("Azure Key Vault")
        }
        "e406a681-f3d4-42a8-90b6-c2b029497af1" | "https://storage.azure.com" => {
            Some("Azure Storage")
        }
        "https://database.windows.net" => Some("Azure SQL"),
        "https://servicebus.azure.net" => Some("Azure Service Bus"),
        _ => None,
    }
}

/// A GUID in its canonical form: lower case, hyphens, no braces.
pub fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

const TENANT: &str = "{tenantid}";

#[cfg(test)]
mod tests {
    use super::*;

    const TID: &str = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";

    #[test]
    fn guids_are_canonical_or_nothing() {
        assert!(is_guid(TID));
        for text in [
            "7A1D0C52-3F0E-4F2B-9D57-0B6F5F1C2E11",
            "{7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11}",
            "7a1d0c523f0e4f2b9d570b6f5f1c2e11",
            "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e1",
            "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e1g",
            "",
            "common",
        ] {
            assert!(!is_guid(text), "{text}");
        }
    }

    #[test]
    fn templates_fit_their_own_version_only() {
        let cloud = Cloud::public();
        let v1 = cloud.v1_issuer_of(TID);
        let v2 = cloud.v2_issuer_of(TID);
        assert_eq!(
            &*v1,
            "https://sts.windows.net/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11/"
        );
        assert_eq!(
            &*v2,
            "https://login.microsoftonline.com/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11/v2.0"
        );
        assert_eq!(tenant_in(&v1, &cloud.v1_issuer), Some(TID));
        assert_eq!(tenant_in(&v2, &cloud.v2_issuer), Some(TID));
        assert_eq!(tenant_in(&v1, &cloud.v2_issuer), None);
        assert_eq!(tenant_in(&v2, &cloud.v1_issuer), None);
        assert_eq!(
            tenant_in("https://sts.windows.net/{tenantid}/", &cloud.v1_issuer),
            None
        );
        assert_eq!(tenant_in("", &cloud.v1_issuer), None);
    }
}
