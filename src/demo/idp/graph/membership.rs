//! Who is in which group.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::answers::{self, graph_error};
use super::Ask;
use super::objects;

/// `checkMemberGroups` takes so many ids.
const CHECKED_AT_ONCE: usize = 20;

/// `getMemberGroups` and `getMemberObjects` answer with so many.
const MEMBER_GROUPS_MAX: usize = 11_000;

fn bad_request(code: &str, message: &str) -> Response {
    graph_error(StatusCode::BAD_REQUEST, code, message)
}

impl Ask<'_> {
    /// `POST {"groupIds": [...]}`: those of them that the object is in, transitively.
    pub(super) fn check_member_groups(&self, id: &str, body: &Bytes) -> Response {
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(asked) = document.get("groupIds").and_then(Value::as_array) else {
            return bad_request(
                "Request_BadRequest",
                "The required parameter 'groupIds' is missing.",
            );
        };
        if asked.len() > CHECKED_AT_ONCE {
            let message = "Too many group ids were provided. The maximum number is 20.";
            return bad_request("Request_BadRequest", message);
        }
        let asked: Vec<&str> = asked.iter().filter_map(Value::as_str).collect();
        if let Some(bad) = asked
            .iter()
            .find(|id| !crate::identity::is_guid(&id.to_ascii_lowercase()))
        {
            let shown: String = bad.chars().take(40).collect();
            let message = format!("Invalid object identifier '{shown}'.");
            return bad_request("Request_BadRequest", &message);
        }
        let all = self.state.groups_of(id);
        let found: Vec<&str> = asked
            .into_iter()
            .filter(|asked| all.contains(*asked))
            .collect();
        self.ids(&found)
    }

    /// `POST {"securityEnabledOnly": bool}`: all of them, transitively.
    pub(super) fn member_groups(&self, id: &str, body: &Bytes) -> Response {
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        if document
            .get("securityEnabledOnly")
            .and_then(Value::as_bool)
            .is_none()
        {
            let message = "The required parameter 'securityEnabledOnly' is missing.";
            return bad_request("Request_BadRequest", message);
        }
        let all = self.state.groups_of(id);
        if all.len() > MEMBER_GROUPS_MAX {
            let message = "The result set exceeds the allowed limit. Use paging.";
            return bad_request("Directory_ResultSizeLimitExceeded", message);
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.ids(&all)
    }

    fn ids(&self, ids: &[&str]) -> Response {
        let context = self.context("Collection(Edm.String)");
        answers::json(
            StatusCode::OK,
            &json!({ "@odata.context": context, "value": ids }),
        )
    }

    /// `transitiveMemberOf` and `memberOf`, of groups alone or of everything, which is the same here.
    pub(super) fn member_of(&self, id: &str, direct: bool, cast: &[&str]) -> Response {
        if !matches!(cast, [] | ["microsoft.graph.group"]) {
            return bad_request("BadRequest", "Resource not found for the segment.");
        }
        let all = if direct {
            let groups = self
                .state
                .groups
                .iter()
                .filter(|(_, group)| group.members.contains(id));
            groups.map(|(group, _)| group.clone()).collect()
        } else {
            self.state.groups_of(id)
        };
        let values = all
            .iter()
            .filter_map(|group| objects::group(&self.state, group))
            .map(|group| {
                let mut group = self.selected(group);
                if cast.is_empty() {
                    group.insert("@odata.type".into(), "#microsoft.graph.group".into());
                }
                Value::Object(group)
            })
            .collect();
        self.page("groups", values)
    }

    /// The direct members of a group.
    pub(super) fn members(&self, id: &str) -> Response {
        let members = self
            .state
            .groups
            .get(id)
            .map(|group| group.members.clone())
            .unwrap_or_default();
        let values = members
            .iter()
            .map(|member| json!({ "@odata.type": self.kind(member), "id": member }))
            .collect();
        self.page("directoryObjects", values)
    }

    /// `@odata.type` of an object.
    pub(super) fn kind(&self, id: &str) -> &'static str {
        if self.state.users.contains_key(id) {
            "#microsoft.graph.user"
        } else if self.state.principals.contains_key(id) {
            "#microsoft.graph.servicePrincipal"
        } else {
            "#microsoft.graph.group"
        }
    }
}
