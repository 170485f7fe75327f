//! The proxy's own credential: into what the token client takes.

use super::super::document::{
    CredentialKind, Document, ManagedIdentity, OwnCredential, Secretless, WorkloadIdentity,
};
use super::super::secret::SecretRef;
use super::Context;
use crate::entra::{self, CredentialConfig, Environment, ManagedId};
use crate::identity::is_guid;
use crate::secret::Secret;

/// None, and a mistake, where something is wrong with it.
pub(super) fn resolve(
    context: &mut Context<'_>,
    path: &[&str],
    document: &Document,
    written: &OwnCredential,
) -> Option<CredentialConfig> {
    let kind = match written {
        OwnCredential::Word(Secretless::ManagedIdentity) => {
            return identity_of_machine(context, path, ManagedId::System);
        }
        OwnCredential::Word(Secretless::WorkloadIdentity) => {
            variables(context, path, &WorkloadIdentity::default());
            return Some(CredentialConfig::WorkloadIdentity {
                tenant: None,
                client_id: None,
                token_file: None,
            });
        }
        OwnCredential::Kind(kind) => kind,
    };
    if one_kind(context, path, kind).is_none() {
        // Whichever is kept, what is wrong with it is to be known now.
        for single in singles(kind) {
            one(context, path, document, &single);
        }
        return None;
    }
    let before = context.mistakes.len();
    let resolved = one(context, path, document, kind);
    let resolved = resolved.filter(|_| context.mistakes.len() == before)?;
    if let CredentialConfig::ClientCertificate {
        certificate, key, ..
    } = &resolved
        && let Err(error) = entra::check_certificate(certificate, key)
    {
        context.mistake(&joined(path, &["client_certificate"]), error.sentence());
        return None;
    }
    Some(resolved)
}

fn joined<'a>(path: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [path, more].concat()
}

fn one_kind(context: &mut Context<'_>, path: &[&str], kind: &CredentialKind) -> Option<()> {
    let given = [
        ("managed_identity", kind.managed_identity.is_some()),
        ("workload_identity", kind.workload_identity.is_some()),
        ("client_certificate", kind.client_certificate.is_some()),
        ("client_secret", kind.client_secret.is_some()),
    ];
    let given: Vec<&str> = given
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
    match given.as_slice() {
        [_] => return Some(()),
        [] if context.lost_something(path) => {}
        [] => context.mistake(
            path,
            "no kind is given; write managed-identity, or { client_certificate: { client_id: GUID, cert: file:PATH, key: file:PATH } }",
        ),
        several => context.mistake(
            path,
            format!("{} are {} kinds at once; keep one", several.join(" and "), several.len()),
        ),
    }
    None
}

/// Each of several kinds alone.
fn singles(kind: &CredentialKind) -> [CredentialKind; 4] {
    let none = CredentialKind::default;
    let kind = kind.clone();
    [
        CredentialKind {
            managed_identity: kind.managed_identity,
            ..none()
        },
        CredentialKind {
            workload_identity: kind.workload_identity,
            ..none()
        },
        CredentialKind {
            client_certificate: kind.client_certificate,
            ..none()
        },
        CredentialKind {
            client_secret: kind.client_secret,
            ..none()
        },
    ]
}

fn one(
    context: &mut Context<'_>,
    path: &[&str],
    document: &Document,
    kind: &CredentialKind,
) -> Option<CredentialConfig> {
    if let Some(written) = &kind.managed_identity {
        let path = joined(path, &["managed_identity"]);
        let id = managed(context, &path, written)?;
        return identity_of_machine(context, &path, id);
    }
    if let Some(written) = &kind.workload_identity {
        let at = |key| joined(path, &["workload_identity", key]);
        variables(context, &joined(path, &["workload_identity"]), written);
        if let Some(id) = &written.client_id {
            application(context, &at("client_id"), id);
        }
        let tenant = written.tenant.as_deref();
        return Some(CredentialConfig::WorkloadIdentity {
            tenant: match tenant {
                Some(tenant) => Some(directory(context, &at("tenant"), tenant)?),
                None => None,
            },
            client_id: written.client_id.as_deref().map(Into::into),
            token_file: written
                .token_file
                .as_ref()
                .map(|file| context.folder.join(file)),
        });
    }
    if let Some(written) = &kind.client_certificate {
        let at = |key| joined(path, &["client_certificate", key]);
        application(context, &at("client_id"), &written.client_id);
        let certificate = secret(context, &at("cert"), &written.cert);
        let key = secret(context, &at("key"), &written.key);
        return Some(CredentialConfig::ClientCertificate {
            tenant: tenant(context, &at("tenant"), document, written.tenant.as_deref())?,
            client_id: written.client_id.as_str().into(),
            certificate: certificate?,
            key: key?,
        });
    }
    let written = kind.client_secret.as_ref()?;
    let at = |key| joined(path, &["client_secret", key]);
    application(context, &at("client_id"), &written.client_id);
    let secret = secret(context, &at("secret"), &written.secret);
    Some(CredentialConfig::ClientSecret {
        tenant: tenant(context, &at("tenant"), document, written.tenant.as_deref())?,
        client_id: written.client_id.as_str().into(),
        secret: secret?,
    })
}

/// What a workload identity is not given in the file comes from variables, without which the program would not start.
fn variables(context: &mut Context<'_>, path: &[&str], written: &WorkloadIdentity) {
    let environment = Environment::of_process();
    let wanted = [
        (
            "AZURE_TENANT_ID",
            "tenant",
            written.tenant.is_some() || environment.tenant_id.is_some(),
        ),
        (
            "AZURE_CLIENT_ID",
            "client_id",
            written.client_id.is_some() || environment.client_id.is_some(),
        ),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            "token_file",
            written.token_file.is_some() || environment.federated_token_file.is_some(),
        ),
    ];
    let lacking = wanted.into_iter().filter(|(_, _, given)| !given);
    let (unset, keys): (Vec<&str>, Vec<&str>) =
        lacking.map(|(variable, key, _)| (variable, key)).unzip();
    // A key that could not be read is told where it stands.
    if unset.is_empty() || context.lost_something(path) {
        return;
    }
    context.mistake(
        path,
        format!(
            "the workload identity lacks its {}, and {} not set here; set what the webhook of AKS workload identity sets, \
             or write workload_identity: {{ {} }}",
            keys.join(", its "),
            match unset.as_slice() {
                [one] => format!("{one} is"),
                several => format!("{} are", several.join(", ")),
            },
            keys.iter()
                .map(|key| format!("{key}: ..."))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    );
}

/// A managed identity, unless the variables say that there cannot be one, with which the program would not start.
fn identity_of_machine(
    context: &mut Context<'_>,
    path: &[&str],
    id: ManagedId,
) -> Option<CredentialConfig> {
    match entra::check_managed(&id, &Environment::of_process()) {
        Ok(()) => Some(CredentialConfig::ManagedIdentity(id)),
        Err(error) => {
            context.mistake(path, error.sentence());
            None
        }
    }
}

fn managed(
    context: &mut Context<'_>,
    path: &[&str],
    written: &ManagedIdentity,
) -> Option<ManagedId> {
    let ManagedIdentity {
        client_id,
        object_id,
        resource_id,
    } = written;
    for (key, id) in [("client_id", client_id), ("object_id", object_id)] {
        if let Some(id) = id {
            application(context, &joined(path, &[key]), id);
        }
    }
    match (client_id, object_id, resource_id) {
        (None, None, None) => Some(ManagedId::System),
        (Some(id), None, None) => Some(ManagedId::ClientId(id.as_str().into())),
        (None, Some(id), None) => Some(ManagedId::ObjectId(id.as_str().into())),
        (None, None, Some(id)) => Some(ManagedId::ResourceId(id.as_str().into())),
        _ => {
            context.mistake(
                path,
                "client_id, object_id and resource_id name the same thing; keep one",
            );
            None
        }
    }
}

/// Secrets of the credential that opens the vault cannot lie in it.
fn secret(context: &mut Context<'_>, path: &[&str], reference: &SecretRef) -> Option<Secret> {
    if reference.is_in_vault() {
        context.mistake(
            path,
            "the proxy's own credential cannot lie in a vault, which it is needed for; write env:NAME or file:PATH",
        );
        return None;
    }
    Some(context.secret(path, reference)?.secret)
}

fn application(context: &mut Context<'_>, path: &[&str], id: &str) {
    if !is_guid(&id.to_ascii_lowercase()) {
        context.mistake(path, format!("`{id}` is no id (a GUID)"));
    }
}

/// The tenant that is written, or the first one whose tokens are accepted.
fn tenant(
    context: &mut Context<'_>,
    path: &[&str],
    document: &Document,
    written: Option<&str>,
) -> Option<Box<str>> {
    if let Some(tenant) = written {
        return directory(context, path, tenant);
    }
    let first = document
        .entra
        .as_ref()
        .and_then(|entra| entra.tenants.first());
    if first.is_none() {
        let (_, parent) = path.split_last()?;
        context.mistake(
            parent,
            "`tenant` is missing; write the id of the tenant that the application is registered in",
        );
    }
    first.map(|tenant| tenant.as_str().into())
}

/// A tenant by id or by domain.
fn directory(context: &mut Context<'_>, path: &[&str], tenant: &str) -> Option<Box<str>> {
    let fit = (1..=253).contains(&tenant.len())
        && tenant
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && !matches!(tenant, "common" | "organizations" | "consumers");
    if !fit {
        context.mistake(
            path,
            format!("`{tenant}` is no tenant; write its id (a GUID) or one of its domains"),
        );
        return None;
    }
    Some(tenant.into())
}
