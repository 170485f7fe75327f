//! What kind of token it is and whether it carries any right at all.
//!
//! An access token of a person, or one of an application; ID tokens, contradictions and kinds that are not modelled are
//! refused. First match wins, in the order written here.

use super::Kind;
use super::authority::{Authority, Shape};
use super::claims::{Claims, Confirmation};
use super::error::{Code, TokenError};
use super::show::{self, Shown};

/// Person or application, and bound to nothing but what the client showed.
pub(crate) fn decide(
    claims: &Claims<'_>,
    authority: &Authority,
    thumbprint: Option<&str>,
) -> Result<Kind, TokenError> {
    if let Some(tell) = claims.of_another_kind {
        return Err(TokenError::new(
            Code::KindOther,
            format!("not an access token: it has {tell}"),
        ));
    }
    let id_token = is_id_token(claims);
    if let Some(why) = &id_token {
        return of_id_token(claims, authority, thumbprint, why);
    }
    let kind = match authority.shape {
        Shape::EntraV1 | Shape::EntraV2 | Shape::B2c => entra(claims)?,
        Shape::Oidc => oidc(claims)?,
    };
    let accepted = match kind {
        Kind::User => authority.accept.users,
        Kind::App => authority.accept.apps,
    };
    if !accepted {
        let (word, who) = match kind {
            Kind::User => ("user", "a person"),
            Kind::App => ("app", "an application"),
        };
        let sentence = format!(
            "the token speaks for {who}, and such are not accepted from this issuer: add '{word}' to its accept if that is \
             intended"
        );
        return Err(TokenError::new(Code::KindRefused, sentence));
    }
    confirmation(claims.confirmation, thumbprint)?;
    Ok(kind)
}

/// Why it looks like an ID token, if it does.
fn is_id_token(claims: &Claims<'_>) -> Option<String> {
    match claims.of_an_id_token {
        Some(tell) => Some(format!("it has the claim {tell}")),
        None if claims.client.is_none_or(str::is_empty) => {
            Some("it names no client application (azp, appid)".to_owned())
        }
        None => None,
    }
}

/// The ID token of a sign-in at our own registration speaks for a person, where that is accepted by name.
fn of_id_token(
    claims: &Claims<'_>,
    authority: &Authority,
    thumbprint: Option<&str>,
    why: &str,
) -> Result<Kind, TokenError> {
    if !authority.accept.id_tokens {
        return Err(TokenError::new(
            Code::KindIdToken,
            format!("this looks like an ID token ({why}); send the access token"),
        ));
    }
    if claims.id_type.is_some_and(|kind| kind != "user") || !claims.scopes.is_empty() {
        return Err(TokenError::new(
            Code::KindOther,
            format!(
                "contradictory: it looks like an ID token ({why}), but has idtyp or scopes of an access token"
            ),
        ));
    }
    confirmation(claims.confirmation, thumbprint)?;
    Ok(Kind::User)
}

/// `idtyp` decides; without it, a scope is a person's, and roles without any trace of a person are an application's
/// if the client proved who it is.
fn entra(claims: &Claims<'_>) -> Result<Kind, TokenError> {
    let scoped = !claims.scopes.is_empty();
    match claims.id_type {
        Some("app") if scoped => Err(TokenError::new(
            Code::KindOther,
            "contradictory: idtyp is app, but the token has scopes of a person",
        )),
        Some("app") => Ok(Kind::App),
        Some("user") => Ok(Kind::User),
        Some(other) => Err(TokenError::new(
            Code::KindOther,
            format!("idtyp '{}' is neither user nor app", Shown(other)),
        )),
        None if scoped => Ok(Kind::User),
        None if claims.roles.is_empty() => Err(empty(claims)),
        None if !claims.of_a_person && matches!(claims.client_auth, Some(1 | 2)) => Ok(Kind::App),
        None => Err(TokenError::new(
            Code::KindOther,
            "cannot tell person from application: no idtyp and no scp. Add the optional claim idtyp to the app \
             registration's access tokens",
        )),
    }
}

/// RFC 9068 section 2.2: without a resource owner, `sub` names the client.
fn oidc(claims: &Claims<'_>) -> Result<Kind, TokenError> {
    match claims.id_type {
        Some("app") => Ok(Kind::App),
        Some("user") => Ok(Kind::User),
        Some(other) => Err(TokenError::new(
            Code::KindOther,
            format!("idtyp '{}' is neither user nor app", Shown(other)),
        )),
        None if is_own_subject(claims) => Ok(Kind::App),
        None => Ok(Kind::User),
    }
}

/// Whether the subject is the client itself; Auth0 writes `<client>@clients`.
fn is_own_subject(claims: &Claims<'_>) -> bool {
    match (claims.sub, claims.client) {
        (Some(sub), Some(client)) => sub
            .strip_prefix(client)
            .is_some_and(|rest| matches!(rest, "" | "@clients")),
        _ => false,
    }
}

/// A bound token is never taken for a bearer token.
fn confirmation(bound: Confirmation<'_>, thumbprint: Option<&str>) -> Result<(), TokenError> {
    match (bound, thumbprint) {
        (Confirmation::None, _) => Ok(()),
        (Confirmation::Certificate(wanted), Some(shown)) if wanted == shown => Ok(()),
        (Confirmation::Certificate(_), Some(_)) => Err(TokenError::new(
            Code::ConfirmationMismatch,
            "the token is bound to another TLS client certificate than the one shown (cnf x5t#S256)",
        )),
        (Confirmation::Certificate(_), None) => Err(TokenError::new(
            Code::ConfirmationMissing,
            "the token is bound to a TLS client certificate (cnf x5t#S256), and the client showed none",
        )),
        (Confirmation::Other, _) => Err(TokenError::new(
            Code::ConfirmationOther,
            "the token is bound to a key (cnf) in a way that cannot be checked on a NATS connection",
        )),
    }
}

/// A signed token without rights proves nothing: any application of the tenant can normally get one.
pub(crate) fn rights(
    claims: &Claims<'_>,
    authority: &Authority,
    kind: Kind,
) -> Result<(), TokenError> {
    let scoped = !claims.scopes.is_empty();
    let enough = match (authority.shape, kind) {
        // An ID token never has scopes, and nobody but its person can have asked for it.
        (_, Kind::User) if is_id_token(claims).is_some() => {
            !claims.roles.is_empty() || !claims.groups.is_empty() || claims.overage
        }
        (Shape::Oidc, _) => scoped || !claims.roles.is_empty() || !claims.groups.is_empty(),
        (_, Kind::User) => scoped,
        (_, Kind::App) => !claims.roles.is_empty(),
    };
    if !enough {
        return Err(empty(claims));
    }
    if let Some(required) = authority.required_scope.as_deref()
        && kind == Kind::User
        && !claims.scopes.contains(&required)
    {
        let sentence = format!(
            "scp '{}' does not contain the required scope '{required}': have the client request it, and consent to it",
            show::list(claims.scopes.iter().copied())
        );
        return Err(TokenError::new(Code::RightsScope, sentence));
    }
    Ok(())
}

fn empty(claims: &Claims<'_>) -> TokenError {
    TokenError::new(
        Code::RightsEmpty,
        format!(
            "client {} has no app role and no scope on this API: assign one (Enterprise applications, Users and groups, \
             or appRoleAssignments) and grant admin consent; managed-identity tokens may stay stale for 24 h",
            Shown(claims.client.unwrap_or_default())
        ),
    )
}
