//! What to change where, by the code of a refusal: the way through the Entra admin center, or why there is none.

/// A family of refusals and what to do about it. The first row whose prefix fits counts.
const ADVICE: [(&str, &str); 35] = [
    (
        "iss.v1-for-v2",
        "App registrations, the API, Manifest: set api.requestedAccessTokenVersion to 2 and get a fresh token; or set entra.v1_tokens: true",
    ),
    (
        "iss.tenant",
        "sign in to a tenant of the configuration (az login --tenant ...), or add the tenant to entra.tenants if that is meant",
    ),
    (
        "iss.cloud",
        "get the token from the cloud of the configuration (az cloud set), or change entra.cloud",
    ),
    (
        "iss.",
        "get the token from an issuer of the configuration; another OIDC issuer goes under issuers",
    ),
    (
        "aud.graph",
        "ask for the scope of the API: api://<application id>/.default (az account get-access-token --scope ...)",
    ),
    (
        "aud.prefix",
        "add this App ID URI to entra.audiences, or have the API emit v2.0 tokens (Manifest: api.requestedAccessTokenVersion 2), whose audience is the application id",
    ),
    (
        "aud.",
        "ask for the scope of the API, api://<application id>/.default; if this is the API, add its audience to entra.audiences",
    ),
    (
        "kind.id_token",
        "use access_token of the answer, not id_token; ask for the scope api://<application id>/.default",
    ),
    (
        "kind.refused",
        "set entra.accept (users, apps) if such identities are meant to connect",
    ),
    (
        "kind.",
        "App registrations, the API, Token configuration: add the optional claim idtyp to access tokens, with the property include_user_token",
    ),
    (
        "claims.idtyp",
        "App registrations, the API, Token configuration: the optional claim idtyp must not be mapped to anything else",
    ),
    (
        "claims.groups",
        "App registrations, the API, Token configuration: emit groups as group ids, or have only the groups that are assigned to the application",
    ),
    (
        "claims.tid",
        "nothing in Entra: its tokens always carry the tenant; this one comes from somewhere else, or a claims mapping policy changed it",
    ),
    (
        "claims.oid",
        "ask for the scope profile, too: without it, v2.0 tokens of people have no oid",
    ),
    (
        "claims.",
        "remove claims mapping policies from the application: Entra does not write this claim so by itself",
    ),
    (
        "cnf.missing",
        "connect with the TLS client certificate that the token is bound to, and set listen.tls.client_ca",
    ),
    (
        "cnf.mismatch",
        "connect with the TLS client certificate that the token was issued for",
    ),
    (
        "cnf.",
        "get a bearer token, or one that is bound to a TLS client certificate",
    ),
    (
        "authz.empty",
        "Enterprise applications, the API, Users and groups: assign an app role (for applications: App registrations, the client, API permissions, and admin consent)",
    ),
    (
        "authz.scope",
        "App registrations, the API, Expose an API: let the client ask for the scope, and ask for it",
    ),
    (
        "authz.norule",
        "bind a role of the configuration to what the token has, or assign the app role in Enterprise applications, the API, Users and groups",
    ),
    (
        "authz.condition",
        "satisfy the condition (an authentication context needs a Conditional Access policy; optional claims are added in Token configuration), or change require",
    ),
    (
        "authz.window",
        "change valid of the role if it should exist now",
    ),
    (
        "authz.upstream",
        "give one role the highest priority, or put a role's name into the user field of CONNECT",
    ),
    (
        "groups.overage",
        "App registrations, the API, Token configuration: Groups assigned to the application; or bind roles by app_role",
    ),
    (
        "groups.names",
        "App registrations, the API, Token configuration: emit Group ID for access tokens",
    ),
    (
        "time.early",
        "nothing in Entra: set the clock (NTP) of the machine that runs natsentry",
    ),
    (
        "time.",
        "nothing in Entra: get a fresh token, and give the client library a callback instead of a text",
    ),
    (
        "key.unknown",
        "if the API has a signing key of its own (claims mapping), set entra.keys_app_id; otherwise the token is from another tenant or cloud",
    ),
    (
        "key.throttled",
        "nothing in Entra: wait as long as it says, or raise keys.unknown_burst if keys roll often here",
    ),
    (
        "key.unavailable",
        "nothing in Entra: let natsentry reach the address of the keys, and try again",
    ),
    (
        "revoked",
        "nothing in Entra: an operator locked this identity out; natsentry unlock, with the id of the lock, lets it in again",
    ),
    (
        "hdr.nonce",
        "ask for the scope of the API, api://<application id>/.default: this token is for one of Microsoft's own",
    ),
    (
        "prep",
        "nothing in Entra: pass the token alone, without a prefix, quotation marks or line breaks",
    ),
    (
        "size",
        "use app roles instead of groups: App registrations, the API, Token configuration; or raise limits.connect_line",
    ),
];

/// For what Entra never issues.
const NOT_ENTRA_S: &str = "nothing in Entra, which does not issue such tokens: it was altered on its way, or made by somebody else";

/// What to change for a refusal of this code.
pub(super) fn change(code: &str) -> &'static str {
    let fits = |prefix: &str| prefix == code || (prefix.ends_with('.') && code.starts_with(prefix));
    let row = ADVICE.iter().find(|(prefix, _)| fits(prefix));
    row.map_or(NOT_ENTRA_S, |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Code;
    use crate::locks::REVOKED;
    use crate::policy::Refusal;

    #[test]
    fn whatever_entra_can_be_told_to_do_differently_is_said() {
        // What is left has no cure there: a token of that kind was not made by Entra.
        let uncured: Vec<&str> = Code::LABELS
            .iter()
            .chain(&Refusal::CODES)
            .chain(&[REVOKED])
            .copied()
            .filter(|code| change(code) == NOT_ENTRA_S)
            .collect();
        let fit = |code: &&str| {
            code.starts_with("hdr.")
                || [
                    "sig.bad",
                    "authz.template",
                    "key.x5t",
                    "key.issuer",
                    "key.cloud",
                ]
                .contains(code)
        };
        assert!(uncured.iter().all(fit), "{uncured:?}");
    }

    #[test]
    fn every_row_is_reached() {
        for (row, (prefix, advice)) in ADVICE.iter().enumerate() {
            let codes = Code::LABELS.iter().chain(&Refusal::CODES).chain(&[REVOKED]);
            let found = codes.copied().any(|code| change(code) == *advice);
            assert!(found, "row {row}, {prefix}, is never used");
        }
    }
}
