//! Whom a lock selects, in the words of the command line.
//!
//! A lock on a name that cannot be right is refused: it would select nobody, and whoever made it would think that somebody
//! is locked out.

use anyhow::bail;
use clap::Args;

use crate::config::LockConfig;
use crate::identity::is_guid;
use crate::locks::{Selector, printable};

/// Whom a lock selects: one of these, `--oid` with `--tid`.
#[derive(Clone, Debug, Args)]
pub(super) struct Whom {
    /// Tenant id of --oid; of another issuer, its URL. Not needed where the configuration accepts one tenant.
    #[arg(long, value_name = "TENANT", requires = "oid")]
    tid: Option<String>,
    /// Object id of a person, an application or a managed identity, as in the audit (`oid`).
    #[arg(long, value_name = "OBJECT", conflicts_with_all = ["azp", "uti", "role", "all"])]
    oid: Option<String>,
    /// Client application: everybody who comes through it, and the application itself (`azp`).
    #[arg(long, value_name = "CLIENT", conflicts_with_all = ["uti", "role", "all"])]
    azp: Option<String>,
    /// One token, by its id (`uti`).
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["role", "all"])]
    uti: Option<String>,
    /// Every session in which a role applies.
    #[arg(long, value_name = "ROLE", conflicts_with = "all")]
    role: Option<String>,
    /// Everybody.
    #[arg(long)]
    all: bool,
}

impl Whom {
    /// # Errors
    /// When nobody is named, or a name cannot be one.
    pub(super) fn selector(&self, config: &LockConfig) -> anyhow::Result<Selector> {
        let names = [&self.oid, &self.azp, &self.uti, &self.role];
        for name in names.into_iter().flatten() {
            if name.trim() != name || name.is_empty() || name.len() > 256 {
                bail!(
                    "'{}' is empty, too long or has spaces around it",
                    printable(name)
                );
            }
        }
        match self {
            Self { oid: Some(oid), .. } => self.identity(oid, config),
            Self { azp: Some(azp), .. } => client(azp, config),
            Self { uti: Some(uti), .. } => Ok(Selector::Token(uti.as_str().into())),
            Self {
                role: Some(role), ..
            } if config.roles.contains(role) => Ok(Selector::Role(role.as_str().into())),
            Self {
                role: Some(role), ..
            } => bail!(
                "the configuration has no role {}; its roles are {}",
                printable(role),
                config.roles.join(", ")
            ),
            Self { all: true, .. } => Ok(Selector::Everybody),
            _ => bail!(
                "say whom: --tid TENANT --oid OBJECT, --azp CLIENT, --uti TOKEN, --role ROLE or --all"
            ),
        }
    }

    fn identity(&self, oid: &str, config: &LockConfig) -> anyhow::Result<Selector> {
        let tenants = &config.tenants;
        let tid = match (&self.tid, tenants.as_slice()) {
            (Some(tid), _) => tid,
            (None, [one]) => one,
            (None, _) => bail!(
                "--tid is needed, since the configuration accepts several: {}",
                tenants.join(", ")
            ),
        };
        let known = tenants.iter().find(|known| known.eq_ignore_ascii_case(tid));
        let Some(known) = known else {
            bail!(
                "the configuration accepts no tokens of tenant {}; it accepts {}",
                printable(tid),
                tenants.join(", ")
            );
        };
        if guid(known) && !guid(oid) {
            bail!(
                "'{}' is no object id, which is a GUID: it stands in the audit as `oid`, and in Entra as Object ID",
                printable(oid)
            );
        }
        Ok(Selector::identity(known, oid))
    }
}

/// Entra names its applications by GUIDs; another issuer may name them as it likes.
fn client(azp: &str, config: &LockConfig) -> anyhow::Result<Selector> {
    if !guid(azp) && config.tenants.iter().all(|tenant| guid(tenant)) {
        bail!(
            "'{}' is no application id, which is a GUID: it stands in the audit as `azp`, and in Entra as Application (client) ID",
            printable(azp)
        );
    }
    Ok(Selector::client(azp))
}

fn guid(text: &str) -> bool {
    is_guid(&text.to_ascii_lowercase())
}
