//! Who the development issuer knows: a few people and applications of an invented company.

use crate::secret::Secret;

/// The tenant and everybody in it.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Tenant id.
    pub tid: String,
    /// Client id of the registration that stands for the NATS API; the audience of v2.0 tokens.
    pub api: String,
    /// App ID URI of the same; the audience of v1.0 tokens.
    pub app_id_uri: String,
    /// Audience of plain OpenID Connect tokens.
    pub oidc_audience: String,
    /// Client id of the command line tool through which people sign in.
    pub cli: String,
    /// People.
    pub people: Vec<Person>,
    /// Applications and managed identities.
    pub applications: Vec<Application>,
}

/// A person.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// Short name to ask for.
    pub name: String,
    /// Object id.
    pub oid: String,
    /// `name` claim.
    pub display_name: String,
    /// `preferred_username` claim.
    pub user_name: String,
    /// App roles.
    pub roles: Vec<String>,
    /// Group object ids.
    pub groups: Vec<String>,
    /// Authentication contexts.
    pub acrs: Vec<String>,
    /// Whether a guest.
    pub guest: bool,
}

/// An application, service principal or managed identity.
#[derive(Clone, Debug, Default)]
pub struct Application {
    /// Short name to ask for.
    pub name: String,
    /// Client id.
    pub client_id: String,
    /// Object id of the service principal.
    pub oid: String,
    /// Secret for the token endpoint; none: only minted here.
    pub secret: Option<Secret>,
    /// App roles.
    pub roles: Vec<String>,
    /// ARM id, for managed identities.
    pub mirid: Option<String>,
}

impl Default for Directory {
    /// Alice runs the plant, Bob analyses, Mallory has no role; the historian and a sensor gateway are applications.
    fn default() -> Self {
        Self {
            tid: "11111111-2222-3333-4444-555555555555".into(),
            api: "b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771".into(),
            app_id_uri: "api://nats-dev".into(),
            oidc_audience: "nats".into(),
            cli: "5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10".into(),
            people: vec![
                person("alice", "aaaaaaaa-0000-4000-8000-000000000001", "Alice Arden", &["Nats.Operator"], &[
                    "0d9ad1c3-1b8b-45d6-8f5a-7f2f0a63d1c4",
                ]),
                person("bob", "bbbbbbbb-0000-4000-8000-000000000002", "Bob Brook", &["Nats.Reader"], &[
                    "9a1f0000-0000-4000-8000-000000000001",
                ]),
                person("mallory", "eeeeeeee-0000-4000-8000-000000000005", "Mallory Moss", &[], &[]),
            ],
            applications: vec![
                Application {
                    name: "historian".into(),
                    client_id: "e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa".into(),
                    oid: "cccccccc-0000-4000-8000-000000000003".into(),
                    secret: Some(Secret::new("historian-development-secret")),
                    roles: vec!["Nats.Telemetry.Read".into()],
                    mirid: None,
                },
                Application {
                    name: "gateway".into(),
                    client_id: "9f6f7c31-2b0a-4d0a-8b77-1d1f1e0c7722".into(),
                    oid: "dddddddd-0000-4000-8000-000000000004".into(),
                    secret: Some(Secret::new("gateway-development-secret")),
                    roles: vec!["Nats.Telemetry.Write".into()],
                    mirid: Some(
                        "/subscriptions/2d5f0000-0000-4000-8000-000000000000/resourcegroups/rg-edge/providers/\
                         Microsoft.ManagedIdentity/userAssignedIdentities/id-gateway"
                            .into(),
                    ),
                },
            ],
        }
    }
}

fn person(name: &str, oid: &str, display_name: &str, roles: &[&str], groups: &[&str]) -> Person {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Person {
        name: name.into(),
        oid: oid.into(),
        display_name: display_name.into(),
        user_name: format!("{name}@fabrikam.example"),
        roles: owned(roles),
        groups: owned(groups),
        acrs: vec!["c1".into()],
        guest: false,
    }
}

impl Directory {
    /// Everybody's short names.
    pub fn names(&self) -> Vec<&str> {
        let people = self.people.iter().map(|person| person.name.as_str());
        people
            .chain(self.applications.iter().map(|app| app.name.as_str()))
            .collect()
    }
}
