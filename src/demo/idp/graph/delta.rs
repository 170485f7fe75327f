//! Delta queries: what has changed since a link was handed out.
//!
//! A link holds the query of the first round, as Graph's do; options are read there alone.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::answers::{self, graph_error, header_text};
use super::super::world::{Change, Collection, What};
use super::{Ask, objects, select};

/// What a delta or skip token holds.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Link {
    /// Changes before this place in the log are known.
    since: usize,
    /// Changes from this place on are for the next round; none: not fixed yet.
    until: Option<usize>,
    /// Entries that earlier pages of this round had.
    skip: usize,
    /// A first round that lists everything.
    all: bool,
    /// `$select` of the first round.
    select: Option<String>,
    /// Ids of `$filter=id eq '...' or id eq '...'`.
    ids: Vec<String>,
}

impl Link {
    fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(token: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()
    }
}

/// `id eq 'a' or id eq 'b'`
fn filtered(filter: &str) -> Vec<String> {
    filter
        .split('\'')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn bad_request(message: &str) -> Response {
    graph_error(StatusCode::BAD_REQUEST, "BadRequest", message)
}

/// Objects that one query may watch by id.
const WATCHED_MAX: usize = 50;

impl Ask<'_> {
    pub(super) fn delta(&self, collection: &str, headers: &HeaderMap) -> Response {
        let of = match collection {
            "users" => Collection::Users,
            "servicePrincipals" => Collection::Principals,
            _ => Collection::Groups,
        };
        let log = self.state.log.len();
        let fresh = || Link {
            since: log,
            select: self.query.get("$select").map(Into::into),
            ids: filtered(self.query.get("$filter").unwrap_or_default()),
            ..Link::default()
        };
        let selected = self.query.get("$select").unwrap_or_default();
        if selected.contains("signInActivity") {
            return bad_request("signInActivity is not supported by delta.");
        }
        let token = self
            .query
            .get("$deltatoken")
            .or_else(|| self.query.get("$skiptoken"));
        let link = match token {
            None => Link {
                all: true,
                ..fresh()
            },
            Some("latest") => return self.round(collection, &[], None, &fresh()),
            Some(token) => match Link::read(token) {
                Some(link) => link,
                None => {
                    return bad_request("Badly formed token.");
                }
            },
        };
        if link.ids.len() > WATCHED_MAX {
            return bad_request("Too many ids in $filter.");
        }
        if link.since < self.shared.world().links_since {
            return self.gone(collection, &link);
        }
        let until = link.until.unwrap_or(log);
        let minimal =
            header_text(headers, "prefer").is_some_and(|prefer| prefer.contains("return=minimal"));
        let entries = if link.all {
            self.everything(of, &link)
        } else {
            // A replica that lags knows less than the link: nothing is new to it.
            let changes = self.state.log.get(link.since..until).unwrap_or_default();
            self.changes(of, changes, &link, minimal)
        };
        let size = self.shared.page_size();
        let page = entries.get(link.skip..).unwrap_or_default();
        let (page, rest) = page.split_at(page.len().min(size));
        let next = (!rest.is_empty()).then(|| Link {
            since: link.since,
            until: Some(until),
            skip: link.skip.saturating_add(size),
            all: link.all,
            select: link.select.clone(),
            ids: link.ids.clone(),
        });
        let later = Link {
            since: until.max(link.since),
            select: link.select,
            ids: link.ids,
            ..Link::default()
        };
        self.round(collection, page, next.as_ref(), &later)
    }

    fn round(
        &self,
        collection: &str,
        page: &[Value],
        next: Option<&Link>,
        later: &Link,
    ) -> Response {
        let address = format!("{}/v1.0/{collection}/delta", self.shared.base);
        let (name, link) = match next {
            Some(next) => (
                "@odata.nextLink",
                format!("{address}?$skiptoken={}", next.token()),
            ),
            None => (
                "@odata.deltaLink",
                format!("{address}?$deltatoken={}", later.token()),
            ),
        };
        let mut document =
            object_of(json!({ "@odata.context": self.context(collection), "value": page }));
        document.insert(name.into(), link.into());
        answers::json(StatusCode::OK, &Value::Object(document))
    }

    /// A link that is too old: everything has to be read anew.
    fn gone(&self, collection: &str, link: &Link) -> Response {
        let message = "The sync state generation is not found. Start over.";
        let mut response = graph_error(StatusCode::GONE, "syncStateNotFound", message);
        let select = link
            .select
            .as_ref()
            .map(|list| format!("&$select={list}"))
            .unwrap_or_default();
        let address = format!(
            "{}/v1.0/{collection}/delta?$deltatoken={select}",
            self.shared.base
        );
        if let Ok(address) = HeaderValue::from_str(&address) {
            response.headers_mut().insert(header::LOCATION, address);
        }
        response
    }

    fn everything(&self, of: Collection, link: &Link) -> Vec<Value> {
        let ids: Vec<&String> = match of {
            Collection::Users => self.state.users.keys().collect(),
            Collection::Principals => self.state.principals.keys().collect(),
            Collection::Groups => self.state.groups.keys().collect(),
        };
        let watched = ids
            .into_iter()
            .filter(|id| link.ids.is_empty() || link.ids.contains(id));
        watched
            .filter_map(|id| {
                let mut entry = self.entry(of, id, link)?;
                if let (Collection::Groups, true) = (of, wants(link, "members")) {
                    let members = self
                        .state
                        .groups
                        .get(id)
                        .map(|group| group.members.clone())
                        .unwrap_or_default();
                    let members: Vec<Value> = members
                        .iter()
                        .map(|id| json!({ "@odata.type": self.kind(id), "id": id }))
                        .collect();
                    if !members.is_empty() {
                        entry.insert("members@delta".into(), members.into());
                    }
                }
                Some(Value::Object(entry))
            })
            .collect()
    }

    /// One entry for each object that changed, with its newest values.
    fn changes(
        &self,
        of: Collection,
        changes: &[Change],
        link: &Link,
        minimal: bool,
    ) -> Vec<Value> {
        let mut objects: Vec<&str> = Vec::new();
        let mut by_id: BTreeMap<&str, Vec<&What>> = BTreeMap::new();
        let ours = changes.iter().filter(|change| change.of == of);
        for change in ours.filter(|change| link.ids.is_empty() || link.ids.contains(&change.id)) {
            let known = by_id.entry(&change.id).or_default();
            if known.is_empty() {
                objects.push(&change.id);
            }
            known.push(&change.what);
        }
        objects
            .into_iter()
            .filter_map(|id| self.changed(of, id, by_id.get(id)?, link, minimal))
            .collect()
    }

    fn changed(
        &self,
        of: Collection,
        id: &str,
        what: &[&What],
        link: &Link,
        minimal: bool,
    ) -> Option<Value> {
        match what.last() {
            Some(What::Deleted) => {
                return Some(json!({ "id": id, "@removed": { "reason": "changed" } }));
            }
            Some(What::Purged) => {
                return Some(json!({ "id": id, "@removed": { "reason": "deleted" } }));
            }
            _ => {}
        }
        let mut members: BTreeMap<&str, bool> = BTreeMap::new();
        let mut properties = Vec::new();
        for change in what {
            match change {
                What::Member(member, here) => {
                    members.insert(member, *here);
                }
                What::Property(name) => properties.push(*name),
                What::Deleted | What::Purged => {}
            }
        }
        properties.retain(|name| wants(link, name) && self.tracks(name));
        let mut entry = self.entry(of, id, link)?;
        if minimal {
            entry.retain(|name, _| name == "id" || properties.iter().any(|one| one == name));
        }
        let members = members.into_iter().filter(|_| wants(link, "members"));
        let members: Vec<Value> = members
            .map(|(member, here)| match here {
                true => json!({ "@odata.type": self.kind(member), "id": member }),
                false => json!({
                    "@odata.type": self.kind(member), "id": member, "@removed": { "reason": "deleted" }
                }),
            })
            .collect();
        if properties.is_empty() && members.is_empty() {
            return None;
        }
        if !members.is_empty() {
            entry.insert("members@delta".into(), members.into());
        }
        Some(Value::Object(entry))
    }

    fn entry(&self, of: Collection, id: &str, link: &Link) -> Option<Map<String, Value>> {
        let all = match of {
            Collection::Users => objects::user(&self.state, id)?,
            Collection::Principals => objects::principal(self, id)?,
            Collection::Groups => objects::group(&self.state, id)?,
        };
        Some(match &link.select {
            Some(list) => select(all, list),
            None => all,
        })
    }

    /// Nobody has said whether Graph's delta tells of revoked sessions; a switch of the emulator decides.
    fn tracks(&self, property: &str) -> bool {
        property != "signInSessionsValidFromDateTime" || self.shared.delta_tracks_sessions()
    }
}

fn wants(link: &Link, property: &str) -> bool {
    link.select
        .as_ref()
        .is_none_or(|list| list.split(',').any(|one| one.trim() == property))
}

fn object_of(value: Value) -> Map<String, Value> {
    super::super::mint::object(value)
}
