//! Who the development issuer knows: a few people and applications of an invented company.

use super::world::guid_of;
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
    /// The managed identity of the machine itself, by its short name; none: user-assigned ones alone.
    pub machine: Option<String>,
    /// Whether the API is for those alone who have a role of it ("assignment required").
    pub assignment_required: bool,
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
    /// Application permissions on Microsoft Graph.
    pub graph: Vec<String>,
    /// Whether it may read secrets of the key vault.
    pub vault: bool,
    /// Groups of the service principal; its tokens do not list them.
    pub groups: Vec<String>,
    /// Certificates that it may sign assertions with, as DER.
    pub certificates: Vec<Vec<u8>>,
    /// Workload identities that it trusts.
    pub federated: Vec<Federated>,
    /// Client id of the blueprint, for agent identities.
    pub blueprint: Option<String>,
}

/// A federated identity credential: whose tokens count as the application's own assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federated {
    /// `iss` of the workload's token.
    pub issuer: String,
    /// `sub` of it.
    pub subject: String,
    /// `aud` of it, `api://AzureADTokenExchange` as a rule.
    pub audience: String,
}

/// Application id of Microsoft Graph.
pub const GRAPH: &str = "00000003-0000-0000-c000-000000000000";

impl Default for Directory {
    /// Alice runs the plant, Bob analyses, Omar is in 250 groups, Petra in 5, Mallory has no role; the historian and a
    /// sensor gateway are applications, an assistant is an agent, and natsentry itself has an application and a managed
    /// identity that may read the directory and the vault.
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
                omar(),
                person("petra", "ffffffff-0000-4000-8000-000000000007", "Petra Pine", &[], &[
                    "9a1f0000-0000-4000-8000-000000000001",
                    "9a1f0000-0000-4000-8000-000000000002",
                    "9a1f0000-0000-4000-8000-000000000003",
                    "9a1f0000-0000-4000-8000-000000000004",
                    "9a1f0000-0000-4000-8000-000000000005",
                ]),
            ],
            applications: vec![
                Application {
                    name: "historian".into(),
                    client_id: "e7740b1c-5a44-41f5-a1a5-92f06cf3d8aa".into(),
                    oid: "cccccccc-0000-4000-8000-000000000003".into(),
                    secret: Some(Secret::new("historian-development-secret")),
                    roles: vec!["Nats.Telemetry.Read".into()],
                    ..Application::default()
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
                    ..Application::default()
                },
                Application {
                    name: "assistant".into(),
                    client_id: "7c0de000-0000-4000-8000-000000000006".into(),
                    oid: "acacacac-0000-4000-8000-000000000006".into(),
                    roles: vec!["Nats.Telemetry.Read".into()],
                    blueprint: Some("7c0de000-0000-4000-8000-0000000000bb".into()),
                    ..Application::default()
                },
                Application {
                    name: "natsentry".into(),
                    client_id: "4e475300-0000-4000-8000-000000000008".into(),
                    oid: "abababab-0000-4000-8000-000000000008".into(),
                    secret: Some(Secret::new("natsentry-development-secret")),
                    graph: directory_readers(),
                    vault: true,
                    ..Application::default()
                },
                Application {
                    name: "natsentry-mi".into(),
                    client_id: "4e475300-0000-4000-8000-000000000009".into(),
                    oid: "abababab-0000-4000-8000-000000000009".into(),
                    mirid: Some(
                        "/subscriptions/2d5f0000-0000-4000-8000-000000000000/resourcegroups/rg-edge/providers/\
                         Microsoft.Compute/virtualMachines/vm-natsentry"
                            .into(),
                    ),
                    graph: directory_readers(),
                    vault: true,
                    ..Application::default()
                },
            ],
            machine: Some("natsentry-mi".into()),
            assignment_required: false,
        }
    }
}

fn directory_readers() -> Vec<String> {
    [
        "User.Read.All",
        "GroupMember.Read.All",
        "Application.Read.All",
    ]
    .map(Into::into)
    .into()
}

/// More groups than a token holds, Alice's among them.
fn omar() -> Person {
    let mut omar = person(
        "omar",
        "abcdabcd-0000-4000-8000-00000000000a",
        "Omar Oak",
        &[],
        &["0d9ad1c3-1b8b-45d6-8f5a-7f2f0a63d1c4"],
    );
    omar.groups
        .extend((1..250).map(|number| format!("60000000-0000-4000-8000-{number:012}")));
    omar
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
    /// Object id of the API's own service principal.
    pub fn api_principal(&self) -> String {
        guid_of(&format!("service principal of {}", self.api))
    }

    /// Everybody's short names.
    pub fn names(&self) -> Vec<&str> {
        let people = self.people.iter().map(|person| person.name.as_str());
        people
            .chain(self.applications.iter().map(|app| app.name.as_str()))
            .collect()
    }
}
