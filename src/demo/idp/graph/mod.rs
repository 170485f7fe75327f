//! Microsoft Graph v1.0, as far as a relying party of the directory needs it.
//!
//! Owns: who may ask what, and which answer a path gets. Source: the Graph reference of each resource, and the notes on
//! throttling for `x-ms-resource-unit`.

mod delta;
mod membership;
mod objects;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answers::{self, Fields, form_fields, graph_error};
use super::people::GRAPH;
use super::world::State as Directory;
use super::{Shared, verify};
use crate::clock;

/// What a request needs: one of each list.
type Permissions = &'static [&'static [&'static str]];

const USERS: &[&str] = &[
    "User.Read.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];
const PRINCIPALS: &[&str] = &[
    "Application.Read.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];
const GROUPS: &[&str] = &[
    "GroupMember.Read.All",
    "Group.Read.All",
    "Directory.Read.All",
    "Directory.ReadWrite.All",
];

/// One request, past the bearer check.
struct Ask<'a> {
    shared: &'a Shared,
    /// The replica that answers.
    state: Arc<Directory>,
    query: Fields,
    /// Path and query, as they came.
    target: String,
}

/// `/v1.0/...`
pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let roles = match permissions(&shared, &headers) {
        Ok(roles) => roles,
        Err(refused) => return *refused,
    };
    let state = shared.world().seen(clock::now());
    let ask = Ask {
        shared: &shared,
        state,
        query: form_fields(uri.query().unwrap_or_default().as_bytes()),
        target: uri.to_string(),
    };
    let path = uri
        .path()
        .trim_start_matches("/v1.0/")
        .trim_end_matches('/')
        .to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    let (needed, cost) = needs(&segments);
    if !needed
        .iter()
        .all(|any| any.iter().any(|one| roles.iter().any(|role| role == one)))
    {
        let message = "Insufficient privileges to complete the operation.";
        return graph_error(
            StatusCode::FORBIDDEN,
            "Authorization_RequestDenied",
            message,
        );
    }
    let mut response = ask.route(&method, &segments, &headers, &body);
    response
        .headers_mut()
        .insert("x-ms-resource-unit", HeaderValue::from(ask.cost(cost)));
    for (known, value) in [
        ("request-id", answers::request_id()),
        ("odata-version", "4.0".into()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().entry(known).or_insert(value);
        }
    }
    response
}

/// The application permissions of the bearer.
fn permissions(shared: &Shared, headers: &HeaderMap) -> Result<Vec<String>, Box<Response>> {
    let unauthorized = |message: &str| {
        let mut response = graph_error(
            StatusCode::UNAUTHORIZED,
            "InvalidAuthenticationToken",
            message,
        );
        let challenge = HeaderValue::from_static("Bearer realm=\"\"");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        Box::new(response)
    };
    let token = answers::bearer(headers).ok_or_else(|| unauthorized("Access token is empty."))?;
    let claims = verify::bearer(
        shared,
        token,
        &["https://graph.microsoft.com", GRAPH, &shared.base],
    )
    .map_err(|bad| unauthorized(bad.message()))?;
    // What a token says is what counts until it ends, whatever was taken away since.
    let roles = claims
        .get("roles")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    Ok(roles
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

/// Permissions and resource units of a path.
fn needs(segments: &[&str]) -> (Permissions, u64) {
    let collection = segments.first().copied().unwrap_or_default();
    let of_principals = collection.starts_with("servicePrincipals");
    match (segments, of_principals) {
        ([_, _, "checkMemberGroups"], false) => (&[USERS, GROUPS], 4),
        ([_, _, "checkMemberGroups"], true) => (&[PRINCIPALS, GROUPS], 4),
        (
            [
                _,
                _,
                "getMemberGroups" | "getMemberObjects" | "memberOf" | "transitiveMemberOf",
                ..,
            ],
            false,
        ) => (&[USERS, GROUPS], 2),
        (
            [
                _,
                _,
                "getMemberGroups" | "getMemberObjects" | "memberOf" | "transitiveMemberOf",
                ..,
            ],
            true,
        ) => (&[PRINCIPALS, GROUPS], 2),
        (["groups", ..], _) => (&[GROUPS], 2),
        ([_, _, _, ..], true) => (&[PRINCIPALS], 2),
        (_, true) => (&[PRINCIPALS], 1),
        _ => (&[USERS], 1),
    }
}

impl Ask<'_> {
    fn route(
        &self,
        method: &Method,
        segments: &[&str],
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Response {
        let get = method == Method::GET;
        let post = method == Method::POST;
        match segments {
            [
                collection @ ("users" | "servicePrincipals" | "groups"),
                "delta",
            ] if get => self.delta(collection, headers),
            [collection @ ("users" | "servicePrincipals" | "groups")] if get => {
                self.list(collection)
            }
            [collection, rest @ ..] => {
                let (collection, id, rest) = match (keyed(collection), rest) {
                    (Some((collection, app_id)), rest) => {
                        (collection, self.principal_of(app_id), rest)
                    }
                    (None, [id, rest @ ..]) => (*collection, Some((*id).to_owned()), rest),
                    (None, []) => return not_found("Resource not found for the segment."),
                };
                let Some(id) = id.and_then(|id| self.found(collection, &id)) else {
                    let asked = segments.get(1).copied().unwrap_or_default();
                    return not_found(&format!(
                        "Resource '{asked}' does not exist or one of its queried reference-property objects are not present."
                    ));
                };
                match rest {
                    [] if get => self.object(collection, &id),
                    ["checkMemberGroups"] if post => self.check_member_groups(&id, body),
                    ["getMemberGroups" | "getMemberObjects"] if post => {
                        self.member_groups(&id, body)
                    }
                    ["transitiveMemberOf" | "memberOf", more @ ..] if get => {
                        let direct = rest.first() == Some(&"memberOf");
                        self.member_of(&id, direct, more)
                    }
                    ["members" | "transitiveMembers", ..] if get && collection == "groups" => {
                        self.members(&id)
                    }
                    ["appRoleAssignedTo"] if get && collection == "servicePrincipals" => {
                        self.assigned_to(&id)
                    }
                    ["appRoleAssignments"] if get => self.assignments(&id),
                    _ => graph_error(
                        StatusCode::BAD_REQUEST,
                        "BadRequest",
                        "Resource not found for the segment.",
                    ),
                }
            }
            [] => not_found("Resource not found for the segment."),
        }
    }

    /// The id of an object of a collection; users also go by their user name.
    fn found(&self, collection: &str, id: &str) -> Option<String> {
        let state = &self.state;
        let there = match collection {
            "users" => {
                let named = state
                    .users
                    .iter()
                    .find(|(_, user)| user.user_name.eq_ignore_ascii_case(id));
                if let Some((oid, _)) = named {
                    return Some(oid.clone());
                }
                state.users.contains_key(id)
            }
            "servicePrincipals" => state.principals.contains_key(id),
            "groups" => state.groups.contains_key(id),
            "directoryObjects" => {
                state.users.contains_key(id)
                    || state.principals.contains_key(id)
                    || state.groups.contains_key(id)
            }
            _ => false,
        };
        there.then(|| id.to_owned())
    }

    fn principal_of(&self, app_id: &str) -> Option<String> {
        let mut principals = self.state.principals.iter();
        principals
            .find(|(_, principal)| principal.app_id == app_id)
            .map(|(id, _)| id.clone())
    }

    /// `$select` costs one less, a small `$top` one less, nothing is free.
    fn cost(&self, base: u64) -> u64 {
        let select = u64::from(self.query.get("$select").is_some());
        let small = u64::from(self.top().is_some_and(|top| top < 20));
        base.saturating_sub(select).saturating_sub(small).max(1)
    }

    fn top(&self) -> Option<usize> {
        self.query.get("$top").and_then(|top| top.parse().ok())
    }

    /// One page of a collection, with a link to the next.
    fn page(&self, context: &str, values: Vec<Value>) -> Response {
        let size = self
            .top()
            .unwrap_or_else(|| self.shared.page_size())
            .clamp(1, 999);
        let skip: usize = self
            .query
            .get("$skiptoken")
            .and_then(|token| token.parse().ok())
            .unwrap_or_default();
        let more = values.len() > skip.saturating_add(size);
        let page: Vec<Value> = values.into_iter().skip(skip).take(size).collect();
        let mut document = json!({ "@odata.context": self.context(context), "value": page });
        if let (true, Some(members)) = (more, document.as_object_mut()) {
            let next = self.next_link(skip.saturating_add(size));
            members.insert("@odata.nextLink".into(), next.into());
        }
        answers::json(StatusCode::OK, &document)
    }

    /// The same address with another `$skiptoken`.
    fn next_link(&self, skip: usize) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let kept = query
            .split('&')
            .filter(|part| !part.is_empty() && !is_named(part, "skiptoken"));
        let kept: Vec<&str> = kept.collect();
        let separator = if kept.is_empty() { "" } else { "&" };
        format!(
            "{}{path}?{}{separator}$skiptoken={skip}",
            self.shared.base,
            kept.join("&")
        )
    }

    fn context(&self, what: &str) -> String {
        format!("{}/v1.0/$metadata#{what}", self.shared.base)
    }

    /// What `$select` leaves of an object; without it everything. The id always stays.
    fn selected(&self, object: Map<String, Value>) -> Map<String, Value> {
        match self.query.get("$select") {
            None => object,
            Some(list) => select(object, list),
        }
    }
}

/// Members that are named in a list, and the id.
fn select(object: Map<String, Value>, list: &str) -> Map<String, Value> {
    let named = |name: &str| list.split(',').any(|one| one.trim() == name);
    object
        .into_iter()
        .filter(|(name, _)| name == "id" || name.starts_with('@') || named(name))
        .collect()
}

/// Whether a raw part of a query is `$<name>=`, the dollar escaped or not.
fn is_named(part: &str, name: &str) -> bool {
    let rest = part.strip_prefix('$').or_else(|| part.strip_prefix("%24"));
    rest.and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest.starts_with('='))
}

/// `servicePrincipals(appId='...')`: an alternate key.
fn keyed(segment: &str) -> Option<(&str, &str)> {
    let decoded = segment.strip_suffix(')')?;
    let (collection, key) = decoded.split_once('(')?;
    let value = key.strip_prefix("appId=")?;
    let value = value
        .strip_prefix('\'')
        .or_else(|| value.strip_prefix("%27"))?;
    let value = value
        .strip_suffix('\'')
        .or_else(|| value.strip_suffix("%27"))?;
    Some((collection, value))
}

fn not_found(message: &str) -> Response {
    graph_error(StatusCode::NOT_FOUND, "Request_ResourceNotFound", message)
}
