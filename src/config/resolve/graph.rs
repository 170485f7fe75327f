//! `entra.graph`: into the settings of the Graph client.

use super::super::document::{self, Document, GraphOutage, GroupsOverage};
use super::{Context, credential, trust};
use crate::entra::GraphSettings;
use crate::http::Address;

/// Looking up groups.
#[derive(Clone, Debug)]
pub struct GraphConfig {
    /// How Graph is asked and what is remembered.
    pub settings: GraphSettings,
    /// Whose groups are looked up.
    pub overage: GroupsOverage,
    /// What happens while Graph cannot be asked.
    pub outage: GraphOutage,
    /// Tenants whose principals are looked up.
    pub tenants: Vec<Box<str>>,
    /// Whether people are among them.
    pub people: bool,
    /// Whether applications are.
    pub applications: bool,
}

pub(super) fn resolve(context: &mut Context<'_>, document: &Document) -> Option<GraphConfig> {
    let entra = document.entra.as_ref()?;
    let written = entra.graph.as_ref()?;
    bounds(context, document, written);
    let path = ["entra", "graph", "credential"];
    let credential = credential::resolve(context, &path, document, &written.credential);
    let cloud = trust::cloud(&entra.cloud);
    let Some(host) = cloud.graph.clone() else {
        if !context.lost_something(&["entra", "cloud"]) {
            context.mistake(
                &["entra", "graph"],
                "the Graph of this cloud is not known; write its address beside the authority: \
                 cloud: { authority: https://login.example.com, graph: https://graph.example.com }",
            );
        }
        return None;
    };
    let said = match Address::parse(&host) {
        Err(_) => Some("is not an https address (plain http is accepted on loopback only)"),
        Ok(address) if !address.is_host() => {
            Some("has more than scheme and host; write it as https://graph.microsoft.com")
        }
        Ok(_) => None,
    };
    if let Some(said) = said {
        context.mistake(&["entra", "cloud", "graph"], format!("`{host}` {said}"));
    }
    let accepts =
        |kinds: &[document::Accepted]| entra.accept.iter().any(|kind| kinds.contains(kind));
    Some(GraphConfig {
        settings: GraphSettings {
            host,
            authority: cloud.authority,
            credential: credential?,
            timeout: written.timeout.get(),
            lookups: usize::try_from(written.lookups).unwrap_or(1),
            fresh: written.cache.fresh.get(),
            stale: written.cache.stale.get(),
            entries: usize::try_from(written.cache.entries).unwrap_or(1),
        },
        overage: written.groups_overage,
        outage: written.outage,
        tenants: entra
            .tenants
            .iter()
            .map(|tenant| tenant.as_str().into())
            .collect(),
        people: accepts(&[document::Accepted::User, document::Accepted::IdToken]),
        applications: accepts(&[document::Accepted::App]),
    })
}

fn bounds(context: &mut Context<'_>, document: &Document, written: &document::Graph) {
    const HOUR_MS: u64 = 3_600_000;
    let at = |key| ["entra", "graph", key];
    context.bounded(&at("timeout"), written.timeout, 100, 60_000);
    if written.timeout > document.limits.handshake {
        context.warning(
            &at("timeout"),
            format!(
                "longer than `limits.handshake` ({}), which ends the connection before",
                document.limits.handshake
            ),
        );
    }
    if !(1..=256).contains(&written.lookups) {
        context.mistake(
            &at("lookups"),
            format!("{} is out of range; write 1 to 256", written.lookups),
        );
    }
    let cache = |key| ["entra", "graph", "cache", key];
    context.bounded(&cache("fresh"), written.cache.fresh, 0, HOUR_MS);
    context.bounded(
        &cache("stale"),
        written.cache.stale,
        1_000,
        7 * 24 * HOUR_MS,
    );
    if written.cache.stale < written.cache.fresh {
        context.mistake(
            &cache("stale"),
            "shorter than `fresh`: an answer would be too old before it is asked for again",
        );
    }
    if !(1..=1_000_000).contains(&written.cache.entries) {
        context.mistake(
            &cache("entries"),
            format!(
                "{} is out of range; write 1 to 1000000",
                written.cache.entries
            ),
        );
    }
}
