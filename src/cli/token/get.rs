//! `natsentry token`: a token for a person or a workload, alone on standard output.
//!
//! Owns: the options, and what the configuration and the environment say where an option does not. Must never: write
//! anything but the token to standard output, or a token anywhere else.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Output, output};
use super::cache::Cache;
use super::ways::{self, Got, Wanted, Way};
use crate::config::{ApiConfig, Config};
use crate::entra::{Environment, ManagedId, Scope, Tools};
use crate::http::Http;
use crate::identity::Cloud;
use crate::policy::units::HumanDuration;

/// Options of `token`.
#[derive(Clone, Debug, Args)]
pub(super) struct GetOptions {
    /// Configuration that names tenant, cloud and audience.
    #[arg(short, long, value_name = "FILE", env = "NATSENTRY_CONFIG")]
    config: Option<PathBuf>,
    /// The API, as api://nats-prod or api://nats-prod/.default; without it, an audience of the configuration.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Tenant id or domain; without it, that of the configuration, or AZURE_TENANT_ID.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Microsoft cloud (public, usgov, usgov-dod, china) or the address of its login host; without it, that of the configuration,
    /// or AZURE_AUTHORITY_HOST.
    #[arg(long, value_name = "CLOUD")]
    cloud: Option<String>,
    /// Where the token is to come from. Without it, each way that the environment offers is tried in this order.
    #[arg(long, value_enum, value_name = "WAY")]
    from: Option<Way>,
    /// Application (client) id: of the workload, of a user-assigned managed identity, or of the public client through
    /// which a person signs in. Without it, AZURE_CLIENT_ID for workloads.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Object id of a user-assigned managed identity.
    #[arg(long, value_name = "ID", conflicts_with_all = ["client_id", "resource_id"])]
    object_id: Option<String>,
    /// Azure resource id of a user-assigned managed identity.
    #[arg(long, value_name = "ID", conflicts_with = "client_id")]
    resource_id: Option<String>,
    /// Where the client secret is: env:NAME or file:PATH. Without it, AZURE_CLIENT_SECRET.
    #[arg(long, value_name = "REF")]
    secret: Option<String>,
    /// Where the client certificate is, in PEM: env:NAME or file:PATH. Without it, AZURE_CLIENT_CERTIFICATE_PATH.
    #[arg(long, value_name = "REF", conflicts_with = "secret")]
    certificate: Option<String>,
    /// Where the key of the certificate is; without it, in the same place.
    #[arg(long, value_name = "REF", requires = "certificate")]
    key: Option<String>,
    /// File with the token of a workload (Kubernetes). Without it, AZURE_FEDERATED_TOKEN_FILE.
    #[arg(long, value_name = "FILE")]
    federated_token_file: Option<PathBuf>,
    /// Keep the token in a file that only this user can read, below the user's cache, and use it until five minutes
    /// before its end.
    #[arg(long)]
    cache: bool,
    /// Longest wait for each way; a person at a device code has as long as the code is good for.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: HumanDuration,
}

/// What is wrong with the question: exit code 2.
struct Usage(String);

pub(super) fn get(options: &GetOptions, format: Output) -> anyhow::Result<ExitCode> {
    let api = match options.config.as_deref().map(Config::load_api) {
        None => None,
        Some(Ok(api)) => api,
        Some(Err(mistakes)) => {
            output::complain(&mistakes.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    let environment = Environment::of_process();
    let wanted = match wanted(options, api.as_ref(), environment) {
        Ok(wanted) => wanted,
        Err(Usage(text)) => {
            output::complain(&format!("natsentry: {text}"));
            return Ok(ExitCode::from(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cache = options.cache.then(|| Cache::of(&wanted));
    let kept = match &cache {
        Some(cache) => cache.load()?,
        None => None,
    };
    let got = match kept {
        Some(got) => got,
        None => {
            let timeout = options.timeout.get();
            let tools = Tools {
                http: Http::new(&[], timeout)?,
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            };
            match runtime.block_on(ways::get(&wanted, tools, timeout)) {
                Ok(got) => got,
                Err(failure) => {
                    output::complain(&failure.show());
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    };
    if let Some(cache) = &cache {
        cache.store(&got)?;
    }
    print(&got, format)?;
    Ok(ExitCode::SUCCESS)
}

/// The one place where a token is written out.
fn print(got: &Got, format: Output) -> anyhow::Result<()> {
    let token = got.secret.expose_str().unwrap_or_default();
    match format {
        Output::Table => output::print(token),
        Output::Json => output::json(&json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_on": got.expires_at.as_secs(),
            "expires_at": got.expires_at.to_string(),
            "from": got.way.word(),
        })),
    }
}

fn wanted(
    options: &GetOptions,
    api: Option<&ApiConfig>,
    environment: Environment,
) -> Result<Wanted, Usage> {
    if options.config.is_some() && api.is_none() && options.scope.is_none() {
        let text = "the configuration has no `entra`, so it names no API; give --scope, --tenant and --cloud";
        return Err(Usage(text.into()));
    }
    let scope = match (&options.scope, api) {
        (Some(scope), _) => Scope::new(scope),
        (None, Some(api)) => Scope::new(api.audience()),
        (None, None) => {
            let text = "which API? Give --scope api://<application id>/.default, or a configuration (-c FILE)";
            return Err(Usage(text.into()));
        }
    };
    let tenants = api.map(|api| api.tenants.as_slice()).unwrap_or_default();
    let tenant = match (&options.tenant, tenants, &environment.tenant_id) {
        (Some(tenant), ..) => Some(tenant.as_str().into()),
        (None, [one], _) => Some(one.clone()),
        (None, [], Some(tenant)) => Some(tenant.as_str().into()),
        (None, [], None) => None,
        (None, several, Some(tenant)) if several.iter().any(|one| **one == **tenant) => {
            Some(tenant.as_str().into())
        }
        (None, several, _) => {
            let text = format!(
                "the configuration has several tenants ({}); give one with --tenant",
                several.join(", ")
            );
            return Err(Usage(text));
        }
    };
    let cloud = options.cloud.as_deref();
    let authority = match (cloud, api, std::env::var("AZURE_AUTHORITY_HOST")) {
        (Some(cloud), ..) => {
            Cloud::named(cloud).map_or_else(|| cloud.into(), |known| known.authority)
        }
        (None, Some(api), _) => api.authority.clone(),
        (None, None, Ok(host)) if !host.is_empty() => host.into(),
        (None, None, _) => Cloud::public().authority,
    };
    let managed = match (&options.client_id, &options.object_id, &options.resource_id) {
        (Some(id), ..) => ManagedId::ClientId(id.as_str().into()),
        (None, Some(id), _) => ManagedId::ObjectId(id.as_str().into()),
        (None, None, Some(id)) => ManagedId::ResourceId(id.as_str().into()),
        (None, None, None) => match &environment.client_id {
            // As in the Azure SDKs: where pods have a client id, it is the identity that is meant.
            Some(id) => ManagedId::ClientId(id.as_str().into()),
            None => ManagedId::System,
        },
    };
    let text = |text: &Option<String>| text.as_deref().map(Box::from);
    Ok(Wanted {
        scope,
        tenant,
        authority,
        from: options.from,
        client_id: text(&options.client_id),
        managed,
        secret: text(&options.secret),
        certificate: text(&options.certificate),
        key: text(&options.key),
        federated_token_file: options.federated_token_file.clone(),
        environment,
    })
}

/// Pause that nobody notices, for looking whether something answers at all.
pub(super) const GLANCE: Duration = Duration::from_millis(1000);
