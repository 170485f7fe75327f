//! What an unverified token shows at each step of the gate, and what kind of token it looks like.

use crate::identity::{Inspection, Stage};

/// The value that a step looks at, for people.
pub(super) fn at(stage: Stage, token: &[u8], seen: &Inspection) -> String {
    let segments: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    match stage {
        Stage::Shape => format!("{} bytes, {} segments", seen.length, segments.len()),
        Stage::Header => listed(seen, &["typ", "alg", "kid", "nonce"]),
        Stage::Key => listed(seen, &["kid", "iss"]),
        Stage::Signature => {
            let length = segments.get(2).map_or(0, |signature| signature.len());
            format!("{length} characters, not shown")
        }
        Stage::Claims => listed(seen, &["ver", "oid", "sub"]),
        Stage::Time => listed(seen, &["nbf", "exp"]),
        Stage::Issuer => listed(seen, &["iss", "tid"]),
        Stage::Audience => listed(seen, &["aud"]),
        Stage::Kind => listed(
            seen,
            &["idtyp", "azp", "appid", "azpacr", "appidacr", "cnf"],
        ),
        Stage::Rights => listed(seen, &["scp", "scope", "roles"]),
    }
}

/// `name value` of those that are there.
fn listed(seen: &Inspection, names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .filter_map(|name| Some(format!("{name} {}", seen.fact(name)?)))
        .collect();
    if shown.is_empty() {
        format!("no {}", names.join(", "))
    } else {
        shown.join(", ")
    }
}

/// What kind of token it looks like (`entra-tokens` kinds). Nothing of it is verified.
pub(super) fn kind(seen: &Inspection) -> &'static str {
    let has = |name: &str| seen.fact(name).is_some();
    let is = |name: &str, value: &str| seen.fact(name) == Some(value);
    if !seen.trouble.is_empty() {
        "not readable as a token"
    } else if has("nonce") {
        "an access token for one of Microsoft's own APIs (header nonce)"
    } else if !has("azp") && !has("appid") {
        "an ID token, or a token of another issuer: it names no client application"
    } else if has("xms_mirid") {
        "an access token of a managed identity"
    } else if is("idtyp", "app") {
        "an access token of an application"
    } else if is("idtyp", "user") || has("scp") {
        "an access token of a person"
    } else if has("roles") {
        "an access token, probably of an application (no idtyp)"
    } else {
        "an access token without any right (neither scp nor roles)"
    }
}
