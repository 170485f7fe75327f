//! What the admin interface shows of the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use super::secrets::RotationFigures;
use super::sessions::Handle;
use crate::admin::{Check, LockList, LockRow, Observed, Page, Readiness, SessionList, SessionRow};
use crate::entra;
use crate::locks::{Ban, Lock};
use crate::metrics::{AheadFigures, AuditFigures, GraphFigures, KeyFigures, Metrics};
use crate::upstream;

/// The server, to be looked at.
pub(super) struct View(pub(super) Arc<Shared>);

impl Observed for View {
    fn readiness(&self) -> Readiness {
        let mut checks = self.upstreams();
        checks.extend(self.issuers());
        // Never a reason to be taken out: whoever has the groups in the token is served, and no other replica knows more.
        checks.extend(self.0.groups.iter().map(|groups| Check {
            name: "graph".to_owned(),
            ok: true,
            detail: groups.detail(),
        }));
        if self.0.running.load().vault.is_some() {
            checks.push(Check {
                name: "keyvault".to_owned(),
                // What was read stays in use.
                ok: true,
                detail: rotation_detail(&self.0.rotation.figures()),
            });
        }
        let (in_force, failing) = self.0.locks.figures();
        let count: u64 = in_force.iter().map(|(_, count)| count).sum();
        checks.push(Check {
            name: "locks".to_owned(),
            // Those that were read stay in force; no other replica would be better off.
            ok: true,
            detail: failing.unwrap_or_else(|| format!("{count} in force")),
        });
        let health = self.0.audit.health();
        checks.push(Check {
            name: "audit".to_owned(),
            ok: health.failing.is_none(),
            detail: health
                .failing
                .unwrap_or_else(|| format!("{} lines written", health.written)),
        });
        if self.0.draining.load(Ordering::Relaxed) {
            checks.push(Check {
                name: "drain".to_owned(),
                ok: false,
                detail: format!("{} sessions are leaving", self.0.sessions.len()),
            });
        }
        Readiness {
            ready: checks.iter().all(|check| check.ok),
            checks,
        }
    }

    fn sessions(&self, page: Page) -> SessionList {
        let all = self.0.sessions.all();
        let rows: Vec<_> = all.iter().filter_map(|handle| row(handle)).collect();
        let total = rows.len();
        let sessions = rows
            .into_iter()
            .filter(|row| row.id > page.after)
            .take(page.limit)
            .collect();
        SessionList { total, sessions }
    }

    fn locks(&self) -> LockList {
        let (_, failing) = self.0.locks.figures();
        let locks = self.0.locks.known();
        LockList {
            failing,
            locks: locks.values().map(|lock| lock_row(lock)).collect(),
        }
    }

    fn refresh(&self, metrics: &Metrics) {
        for status in self.0.jwks.status() {
            metrics.set_keys(&KeyFigures {
                issuer: (*status.name).into(),
                age: status.age,
                keys: status.keys,
                fetches_ok: status.fetches_ok,
                fetches_failed: status.fetches_failed,
            });
        }
        let rotation = self.0.rotation.figures();
        metrics.set_vault(rotation.reads, rotation.failures, rotation.age);
        if let Some(groups) = &self.0.groups {
            metrics.set_graph(&graph_figures(&groups.figures()));
        }
        let (in_force, failing) = self.0.locks.figures();
        metrics.set_locks(&in_force, failing.is_some());
        let memory = &self.0.memory;
        metrics.set_memory(memory.used(), memory.limit(), memory.refused());
        for status in self.0.upstreams.status() {
            metrics.set_upstream_up(&status.name, status.ready);
            metrics.set_links_ahead(&status.name, &ahead_figures(status.ahead));
        }
        let health = self.0.audit.health();
        metrics.set_audit(AuditFigures {
            written: health.written,
            dropped: health.dropped,
            suppressed: health.suppressed,
            failing: health.failing.is_some(),
        });
    }
}

fn ahead_figures(links: upstream::AheadFigures) -> AheadFigures {
    AheadFigures {
        waiting: links.waiting,
        ended: [
            ("taken", links.taken),
            ("expired", links.expired),
            ("failed", links.failed),
            ("dropped", links.dropped),
        ],
    }
}

impl View {
    fn upstreams(&self) -> Vec<Check> {
        let check = |status: upstream::UpstreamStatus| {
            let servers: Vec<_> = status
                .servers
                .iter()
                .map(|server| match &server.last_error {
                    Some(error) => format!("{}: {error}", server.server),
                    None => format!("{}: {:?}", server.server, server.state).to_lowercase(),
                })
                .collect();
            Check {
                name: format!("upstream {}", status.name),
                ok: status.ready,
                detail: servers.join("; "),
            }
        };
        self.0.upstreams.status().into_iter().map(check).collect()
    }

    fn issuers(&self) -> Vec<Check> {
        self.0
            .jwks
            .status()
            .into_iter()
            .map(|status| Check {
                name: format!("issuer {}", status.name),
                ok: status.usable,
                detail: keys_detail(&status),
            })
            .collect()
    }
}

fn rotation_detail(figures: &RotationFigures) -> String {
    let read = match figures.age {
        Some(age) => format!("secrets read again {} s ago", age.as_secs()),
        None => "secrets read at the start".to_owned(),
    };
    match &figures.error {
        Some(error) => format!("{read}; {error}"),
        None => read,
    }
}

fn graph_figures(figures: &entra::GraphFigures) -> GraphFigures {
    let mut requests = [("", 0); 5];
    let counted = entra::RESULTS.into_iter().zip(figures.requests);
    for (slot, counted) in requests.iter_mut().zip(counted) {
        *slot = counted;
    }
    GraphFigures {
        requests,
        hits: figures.hits,
        stale: figures.stale,
        age: figures.age,
        paused: figures.paused,
    }
}

fn keys_detail(status: &crate::jwks::SourceStatus) -> String {
    let keys = match status.age {
        Some(age) => format!("{} keys, fetched {} s ago", status.keys, age.as_secs()),
        None => "no keys yet".to_owned(),
    };
    match &status.last_error {
        Some(error) => format!("{keys}; {}: {error}", status.url),
        None => keys,
    }
}

fn lock_row(lock: &Lock) -> LockRow {
    LockRow {
        id: lock.id.to_string(),
        whom: lock.selector.to_string(),
        tokens_before: match lock.ban {
            Ban::Everything => None,
            Ban::TokensBefore(cut) => Some(cut.to_string()),
        },
        until: lock.until.map(|until| until.to_string()),
        at: lock.at.to_string(),
        by: lock.by.to_string(),
        reason: lock.reason.to_string(),
    }
}

fn row(handle: &Handle) -> Option<SessionRow> {
    let bound = handle.bound()?;
    let (identity, connected) = (&bound.identity, &bound.connected);
    let traffic = handle.traffic();
    Some(SessionRow {
        id: handle.id.0,
        since: bound.since.to_string(),
        ends_at: connected.ends_at.to_string(),
        tid: identity.tid.to_string(),
        oid: identity.oid.to_string(),
        azp: identity.azp.as_deref().map(str::to_owned),
        name: identity.display_name.as_deref().map(str::to_owned),
        roles: connected.roles.clone(),
        upstream: Arc::clone(&connected.upstream),
        server: connected.server.to_string(),
        client: handle.client.to_string(),
        library: connected.library.to_string(),
        tls: connected.tls,
        messages_in: traffic.messages_in,
        bytes_in: traffic.bytes_in,
        messages_out: traffic.messages_out,
        bytes_out: traffic.bytes_out,
        subscriptions: handle.subscriptions(),
        denied: traffic.denied,
    })
}
