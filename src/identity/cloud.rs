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
    /// Scheme and host of Microsoft Graph; none where it is not known.
    pub graph: Option<Box<str>>,
    /// Versions whose issuer is only believed to have that host: the metadata says it.
    reads_host_of: Versions,
}

/// Versions of access tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Versions {
    v1: bool,
    v2: bool,
}

impl Cloud {
    /// Entra ID for everyone, and US Government GCC "low".
    pub fn public() -> Self {
        Self::known(
            "public",
            "https://login.microsoftonline.com",
            "https://sts.windows.net",
        )
        .with_graph("https://graph.microsoft.com")
    }

    /// US Government GCC High. No document says what the host of its v1.0 issuers is, so the metadata does.
    pub fn us_government() -> Self {
        let mut cloud = Self::known(
            "usgov",
            "https://login.microsoftonline.us",
            "https://sts.windows.net",
        )
        .with_graph("https://graph.microsoft.us");
        cloud.reads_host_of.v1 = true;
        cloud
    }

    /// US Government DoD: the authority of GCC High, with a Graph of its own.
    pub fn us_government_dod() -> Self {
        Self {
            name: "usgov-dod".into(),
            ..Self::us_government()
        }
        .with_graph("https://dod-graph.microsoft.us")
    }

    /// China, operated by 21Vianet.
    pub fn china() -> Self {
        Self::known(
            "china",
            "https://login.partner.microsoftonline.cn",
            "https://sts.chinacloudapi.cn",
        )
        .with_graph("https://microsoftgraph.chinacloudapi.cn")
    }

    /// An External ID (CIAM) tenant: the authority is `https://<name>.ciamlogin.com` or a domain of one's own, and the
    /// host of the issuer is the tenant id, whatever the authority's is; the metadata says it. There are no v1.0 tokens.
    pub fn external_id(authority: &str) -> Self {
        let mut cloud = Self::custom(authority).with_graph("https://graph.microsoft.com");
        cloud.name = "external-id".into();
        cloud.v2_issuer = format!("https://{TENANT}.ciamlogin.com/{TENANT}/v2.0").into();
        cloud.reads_host_of.v2 = true;
        cloud
    }

    /// An authority that is shaped like Entra: `<authority>/<tid>/v2.0` issues v2.0, `<authority>/<tid>/` v1.0 tokens.
    pub fn custom(authority: &str) -> Self {
        let authority = authority.trim_end_matches('/');
        Self::known("custom", authority, authority)
    }

    /// The Microsoft cloud of an authority; any other authority is a look-alike.
    pub fn of_authority(authority: &str) -> Self {
        let known = [Self::public(), Self::us_government(), Self::china()];
        let authority = authority.trim_end_matches('/');
        known
            .into_iter()
            .find(|cloud| *cloud.authority == *authority)
            .unwrap_or_else(|| Self::custom(authority))
    }

    /// The cloud of a configuration word.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "public" => Some(Self::public()),
            "usgov" => Some(Self::us_government()),
            "usgov-dod" => Some(Self::us_government_dod()),
            "china" => Some(Self::china()),
            _ => None,
        }
    }

    /// The same with Graph at this address.
    #[must_use]
    pub fn with_graph(mut self, graph: &str) -> Self {
        self.graph = Some(graph.trim_end_matches('/').into());
        self
    }

    fn known(name: &str, authority: &str, v1_base: &str) -> Self {
        Self {
            name: name.into(),
            authority: authority.into(),
            v2_issuer: format!("{authority}/{TENANT}/v2.0").into(),
            v1_issuer: format!("{v1_base}/{TENANT}/").into(),
            graph: None,
            reads_host_of: Versions::default(),
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

    /// Whether the metadata says which host the v2.0 issuer has.
    pub(crate) const fn reads_v2_host(&self) -> bool {
        self.reads_host_of.v2
    }

    /// Whether the metadata says which host the v1.0 issuer has.
    pub(crate) const fn reads_v1_host(&self) -> bool {
        self.reads_host_of.v1
    }
}

/// Whether two issuers are https addresses that differ in their host at most; a port, user information, a query or a
/// spelling that a host does not have is no host.
pub(crate) fn differ_in_host_only(one: &str, other: &str) -> bool {
    let parts = |text: &str| {
        let (host, path) = text.strip_prefix("https://")?.split_once('/')?;
        let plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        (!host.is_empty() && host.bytes().all(plain)).then(|| path.to_owned())
    };
    one == other || matches!((parts(one), parts(other)), (Some(a), Some(b)) if a == b)
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
    let audience = audience.strip_prefix("spn:").unwrap_or(audience);
    let audience = audience.trim_end_matches('/');
    let listed = MICROSOFT_APIS
        .iter()
        .find(|(_, names)| names.contains(&audience));
    if let Some((api, _)) = listed {
        return Some(api);
    }
    let host = audience.strip_prefix("https://")?;
    HOSTED_APIS
        .iter()
        .find(|(suffix, _)| host.ends_with(suffix))
        .map(|(_, api)| *api)
}

/// Ids and addresses under which clients ask for tokens of Microsoft's own APIs.
const MICROSOFT_APIS: [(&str, &[&str]); 15] = [
    (
        "Microsoft Graph",
        &[
            "00000003-0000-0000-c000-000000000000",
            "https://graph.microsoft.com",
            "https://graph.microsoft.us",
            "https://dod-graph.microsoft.us",
            "https://microsoftgraph.chinacloudapi.cn",
        ],
    ),
    (
        "Azure AD Graph",
        &[
            "00000002-0000-0000-c000-000000000000",
            "https://graph.windows.net",
            "https://graph.chinacloudapi.cn",
        ],
    ),
    (
        "Azure Resource Manager",
        &[
            "797f4846-ba00-4fd7-ba43-dac1f8f63013",
            "https://management.azure.com",
            "https://management.core.windows.net",
            "https://management.usgovcloudapi.net",
            "https://management.core.usgovcloudapi.net",
            "https://management.chinacloudapi.cn",
            "https://management.core.chinacloudapi.cn",
        ],
    ),
    (
        "Azure Key Vault",
        &[
            "cfa8b339-82a2-471a-a3c9-0fc0be7a4093",
            "https://vault.azure.net",
            "https://vault.usgovcloudapi.net",
            "https://vault.azure.cn",
        ],
    ),
    (
        "Azure Storage",
        &[
            "e406a681-f3d4-42a8-90b6-c2b029497af1",
            "https://storage.azure.com",
        ],
    ),
    (
        "Azure SQL",
        &[
            "022907d3-0f1b-48f7-badc-1ba6abab6d66",
            "https://database.windows.net",
            "https://database.usgovcloudapi.net",
            "https://database.chinacloudapi.cn",
        ],
    ),
    (
        "Azure Database for PostgreSQL and MySQL",
        &["https://ossrdbms-aad.database.windows.net"],
    ),
    ("Azure Service Bus", &["https://servicebus.azure.net"]),
    ("Azure Event Hubs", &["https://eventhubs.azure.net"]),
    ("Azure Cosmos DB", &["https://cosmos.azure.com"]),
    (
        "Azure Monitor",
        &[
            "https://monitor.azure.com",
            "https://api.loganalytics.io",
            "https://api.applicationinsights.io",
        ],
    ),
    (
        "Azure AI services",
        &[
            "https://cognitiveservices.azure.com",
            "https://ai.azure.com",
        ],
    ),
    ("Azure DevOps", &["499b84ac-1321-427f-aa17-267ca6975798"]),
    (
        "Exchange Online",
        &[
            "00000002-0000-0ff1-ce00-000000000000",
            "https://outlook.office.com",
            "https://outlook.office365.com",
        ],
    ),
    ("SharePoint", &["00000003-0000-0ff1-ce00-000000000000"]),
];

/// APIs with a host for each customer.
const HOSTED_APIS: [(&str, &str); 5] = [
    (".sharepoint.com", "SharePoint"),
    (".vault.azure.net", "Azure Key Vault"),
    (".servicebus.windows.net", "Azure Service Bus"),
    (".core.windows.net", "Azure Storage"),
    (".documents.azure.com", "Azure Cosmos DB"),
];

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

    #[test]
    fn every_cloud_has_its_addresses() {
        let rows = [
            (
                Cloud::public(),
                "login.microsoftonline.com",
                "https://sts.windows.net/",
                "https://graph.microsoft.com",
            ),
            (
                Cloud::us_government(),
                "login.microsoftonline.us",
                "https://sts.windows.net/",
                "https://graph.microsoft.us",
            ),
            (
                Cloud::us_government_dod(),
                "login.microsoftonline.us",
                "https://sts.windows.net/",
                "https://dod-graph.microsoft.us",
            ),
            (
                Cloud::china(),
                "login.partner.microsoftonline.cn",
                "https://sts.chinacloudapi.cn/",
                "https://microsoftgraph.chinacloudapi.cn",
            ),
        ];
        for (cloud, host, v1, graph) in rows {
            assert_eq!(*cloud.authority, format!("https://{host}"));
            assert_eq!(
                *cloud.v2_issuer_of(TID),
                format!("https://{host}/{TID}/v2.0")
            );
            assert_eq!(*cloud.v1_issuer_of(TID), format!("{v1}{TID}/"));
            assert_eq!(cloud.graph.as_deref(), Some(graph));
            assert_eq!(Cloud::named(&cloud.name).as_ref(), Some(&cloud));
            assert!(
                cloud_of_host(host)
                    .is_some_and(|name| name.contains(cloud.name.split('-').next().unwrap()))
            );
        }
        assert_eq!(
            &*Cloud::of_authority("https://login.microsoftonline.us/").name,
            "usgov"
        );
        assert_eq!(
            &*Cloud::of_authority("http://127.0.0.1:9333").name,
            "custom"
        );
        let ciam = Cloud::external_id("https://contoso.ciamlogin.com/");
        assert_eq!(
            *ciam.v2_issuer_of(TID),
            format!("https://{TID}.ciamlogin.com/{TID}/v2.0")
        );
    }

    #[test]
    fn a_host_is_all_that_may_differ() {
        let believed = "https://sts.windows.net/t/";
        for same in [believed, "https://sts.example.us/t/", "https://a/t/"] {
            assert!(differ_in_host_only(same, believed), "{same}");
        }
        for other in [
            "https://sts.windows.net/t",
            "https://sts.windows.net/u/",
            "http://sts.windows.net/t/",
            "https://sts.windows.net:443/t/",
            "https://me@sts.windows.net/t/",
            "https://STS.windows.net/t/",
            "https:///t/",
            "",
        ] {
            assert!(!differ_in_host_only(other, believed), "{other}");
        }
    }

    #[test]
    fn microsofts_own_apis_are_known_by_name() {
        for (audience, api) in [
            ("https://graph.microsoft.com/", "Microsoft Graph"),
            (
                "spn:00000003-0000-0000-c000-000000000000",
                "Microsoft Graph",
            ),
            ("https://management.azure.com/", "Azure Resource Manager"),
            ("https://contoso.sharepoint.com", "SharePoint"),
            ("https://plant.servicebus.windows.net", "Azure Service Bus"),
        ] {
            assert_eq!(microsoft_api(audience), Some(api), "{audience}");
        }
        for ours in [
            "api://nats",
            "b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771",
            "https://nats.example.com",
            "",
        ] {
            assert_eq!(microsoft_api(ours), None, "{ours}");
        }
    }
}
