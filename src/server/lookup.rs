//! Groups of one identity for commands: asked as an admission would ask, once.

use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Turned;
use super::groups::{Completed, GroupSource, because};
use crate::config::Config;
use crate::entra::Tools;
use crate::http::Http;
use crate::identity::Identity;
use crate::session::Refusal;

/// What came of it.
#[derive(Debug)]
pub enum LookedUp {
    /// As much is known as there is to know.
    Whole,
    /// Graph cannot be asked, and roles that do not go by groups may be given.
    Lacking(Refusal),
    /// Refused: the identity does not exist.
    Refused(Refusal),
    /// Not now.
    Postponed(Refusal),
}

/// Whether an admission would ask Graph for the groups of an identity.
///
/// # Errors
/// When the credential of the configuration cannot be used.
pub fn would_look_up(config: &Config, identity: &Identity) -> anyhow::Result<bool> {
    let source = source(config)?;
    Ok(source.is_some_and(|source| source.wanted(&config.policy, identity).is_some()))
}

/// Asks for the groups of an identity where an admission would, and notes the answer in it.
///
/// # Errors
/// When the credential of the configuration cannot be used.
pub async fn look_up(config: &Config, identity: &mut Identity) -> anyhow::Result<LookedUp> {
    let Some(source) = source(config)? else {
        return Ok(LookedUp::Whole);
    };
    let mut shared = Arc::new(identity.clone());
    let completed = source.complete(&config.policy, &mut shared).await;
    *identity = Arc::unwrap_or_clone(shared);
    Ok(match completed {
        Ok(Completed::Whole) | Err(Turned::Unavailable(_)) => LookedUp::Whole,
        Ok(Completed::Lacking(error)) => LookedUp::Lacking(because(&error)),
        Err(Turned::Refused(refusal)) => LookedUp::Refused(refusal),
        Err(Turned::Postponed(refusal)) => LookedUp::Postponed(refusal),
    })
}

fn source(config: &Config) -> anyhow::Result<Option<GroupSource>> {
    let Some(graph) = &config.graph else {
        return Ok(None);
    };
    let tools = Tools {
        http: Http::new(&config.keys.extra_roots, graph.settings.timeout)?,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let source = GroupSource::new(graph.clone(), tools).context("entra.graph.credential")?;
    Ok(Some(source))
}
