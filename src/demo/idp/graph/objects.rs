//! Users, service principals, groups and app role assignments.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::answers;
use super::super::mint::object;
use super::super::world::{Assignment, State, guid_of};
use super::{Ask, not_found};

/// A user with all that the emulator knows.
pub(super) fn user(state: &State, id: &str) -> Option<Map<String, Value>> {
    let user = state.users.get(id)?;
    let valid_from = user.sessions_valid_from.to_string();
    let seconds = valid_from.get(..19).unwrap_or_default();
    Some(object(json!({
        "id": id, "accountEnabled": user.enabled, "displayName": user.display_name,
        "userPrincipalName": user.user_name, "userType": if user.guest { "Guest" } else { "Member" },
        "signInSessionsValidFromDateTime": format!("{seconds}Z"),
    })))
}

/// A service principal.
pub(super) fn principal(ask: &Ask<'_>, id: &str) -> Option<Map<String, Value>> {
    let principal = ask.state.principals.get(id)?;
    let mut members = object(json!({
        "id": id, "appId": principal.app_id, "displayName": principal.name, "accountEnabled": principal.enabled,
        "servicePrincipalType": if principal.managed { "ManagedIdentity" } else { "Application" },
        "appRoleAssignmentRequired": false,
    }));
    if principal.app_id == ask.shared.directory.api {
        let mut roles: Vec<&str> = ask
            .state
            .assignments
            .iter()
            .map(|given| given.role.as_str())
            .collect();
        roles.sort_unstable();
        roles.dedup();
        let roles: Vec<Value> = roles
            .into_iter()
            .map(|role| {
                json!({
                    "id": role_id(role), "value": role, "displayName": role, "isEnabled": true,
                    "allowedMemberTypes": ["User", "Application"],
                })
            })
            .collect();
        members.insert("appRoles".into(), roles.into());
        members.insert(
            "appRoleAssignmentRequired".into(),
            ask.shared.directory.assignment_required.into(),
        );
    }
    Some(members)
}

/// A group.
pub(super) fn group(state: &State, id: &str) -> Option<Map<String, Value>> {
    let group = state.groups.get(id)?;
    Some(object(json!({
        "id": id, "displayName": group.display_name, "securityEnabled": true, "mailEnabled": false, "groupTypes": [],
    })))
}

/// The id of an app role.
pub(super) fn role_id(role: &str) -> String {
    guid_of(&format!("role {role}"))
}

impl Ask<'_> {
    fn described(&self, collection: &str, id: &str) -> Option<Map<String, Value>> {
        match collection {
            "users" => user(&self.state, id),
            "servicePrincipals" => principal(self, id),
            "groups" => group(&self.state, id),
            _ => user(&self.state, id)
                .or_else(|| principal(self, id))
                .or_else(|| group(&self.state, id)),
        }
    }

    pub(super) fn object(&self, collection: &str, id: &str) -> Response {
        let Some(found) = self.described(collection, id) else {
            return not_found("Resource does not exist.");
        };
        // Some properties come only to those who ask for them.
        let mut found = found;
        if self.query.get("$select").is_none() {
            found.remove("accountEnabled");
            found.remove("signInSessionsValidFromDateTime");
            found.remove("userType");
            if collection == "servicePrincipals"
                && let Some(all) = principal(self, id)
            {
                found = all;
            }
        }
        let mut shown = self.selected(found);
        shown.insert(
            "@odata.context".into(),
            self.context(&format!("{collection}/$entity")).into(),
        );
        answers::json(StatusCode::OK, &Value::Object(shown))
    }

    /// A collection, or what `$filter=appId eq '...'` or `id in (...)` leaves of it.
    pub(super) fn list(&self, collection: &str) -> Response {
        let ids: Vec<&String> = match collection {
            "users" => self.state.users.keys().collect(),
            "servicePrincipals" => self.state.principals.keys().collect(),
            _ => self.state.groups.keys().collect(),
        };
        let filter = self.query.get("$filter").unwrap_or_default();
        let fits = |members: &Map<String, Value>| {
            let named = |name: &str| {
                members
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            filter.is_empty()
                || ["id", "appId", "displayName", "userPrincipalName"]
                    .iter()
                    .any(|name| {
                        filter.contains(name)
                            && !named(name).is_empty()
                            && filter.contains(&format!("'{}'", named(name)))
                    })
        };
        let values = ids
            .into_iter()
            .filter_map(|id| self.described(collection, id))
            .filter(fits)
            .map(|members| Value::Object(self.selected(members)))
            .collect();
        self.page(collection, values)
    }

    /// Who has roles of an API: `appRoleAssignedTo`.
    pub(super) fn assigned_to(&self, resource: &str) -> Response {
        let ours = resource == self.shared.directory.api_principal();
        let given = self.state.assignments.iter().filter(|_| ours);
        let values = given
            .map(|given| self.assignment(given, resource))
            .collect();
        self.page("appRoleAssignments", values)
    }

    /// Which roles somebody has: `appRoleAssignments`.
    pub(super) fn assignments(&self, principal: &str) -> Response {
        let resource = self.shared.directory.api_principal();
        let given = self
            .state
            .assignments
            .iter()
            .filter(|given| given.principal == principal);
        let values = given
            .map(|given| self.assignment(given, &resource))
            .collect();
        self.page("appRoleAssignments", values)
    }

    fn assignment(&self, given: &Assignment, resource: &str) -> Value {
        let user = self.state.users.get(&given.principal);
        let (kind, name) = match (user, self.state.principals.get(&given.principal)) {
            (Some(user), _) => ("User", user.display_name.as_str()),
            (None, Some(principal)) => ("ServicePrincipal", principal.name.as_str()),
            (None, None) => ("Group", ""),
        };
        json!({
            "id": given.id, "deletedDateTime": null, "appRoleId": role_id(&given.role),
            "createdDateTime": given.since.to_string(), "principalDisplayName": name,
            "principalId": given.principal, "principalType": kind, "resourceDisplayName": "nats",
            "resourceId": resource,
        })
    }
}
