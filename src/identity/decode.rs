//! What the gate says of a token when nobody has said whom to trust: the same steps and sentences, without key,
//! signature and issuer. Nothing here admits anybody.

use super::checks;
use super::claims::{self, Claims};
use super::cloud::{self, Cloud, is_guid};
use super::error::{Stage, TokenError};
use super::expectations::{Entra, Expectations, OtherIssuer, TokenLimits};
use super::header::{self, Header};
use super::keys::KeyRing;
use super::kind;
use super::segments::Segments;
use super::stranger::unknown_issuer;
use super::strict_json::{Object, Value};
use super::{Accept, GroupForm, Kind};
use crate::time::Timestamp;

/// The kind of principal that an unverified token speaks for, if it is an access token that is valid at `now` and has
/// any right.
///
/// # Errors
///
/// [`TokenError`] for what every listener would refuse, whomever it trusts.
pub fn decode(token: &[u8], now: Timestamp) -> Result<Kind, TokenError> {
    let limits = TokenLimits::default();
    let segments = Segments::split(token, limits.size)?;
    let Header { typed, .. } = header::check(&segments.header()?)?;
    let bytes = segments.payload()?;
    let payload = claims::payload(&bytes)?;
    let issuer = claims::issuer(&payload)?;
    let table = trusting(issuer, &payload);
    let authority = table
        .authority(issuer, &KeyRing::default())
        .ok_or_else(|| unknown_issuer(issuer, &payload, &table))?;
    if !typed && authority.shape.is_entra() {
        return Err(header::untyped());
    }
    let claims = Claims::read(&payload, authority)?;
    checks::time(&claims, authority, limits, now)?;
    let audience = claims.audiences.first().copied().unwrap_or_default();
    if let Some(api) = cloud::microsoft_api(audience) {
        return Err(checks::for_another_api(api, audience, &[]));
    }
    // A certificate is whatever the token is bound to: nobody has shown one.
    let kind = kind::decide(&claims, authority, claims.certificate())?;
    kind::rights(&claims, authority, kind)?;
    Ok(kind)
}

/// What each check would say that looks at the claims of a token alone, whatever other checks say of it: who is told of one
/// mistake wants to hear of the others, too. Key and signature are not among them, and without `expectations`, or where
/// the issuer is not in them, neither are issuer and audience. Empty where the payload cannot be read.
pub fn beyond(
    token: &[u8],
    thumbprint: Option<&str>,
    expectations: Option<&Expectations>,
    now: Timestamp,
) -> Vec<(Stage, Result<(), TokenError>)> {
    let limits = expectations.map_or_else(TokenLimits::default, Expectations::limits);
    let mut said = Vec::new();
    let Ok(bytes) = Segments::split(token, limits.size).and_then(|segments| segments.payload())
    else {
        return said;
    };
    let Ok(payload) = claims::payload(&bytes) else {
        return said;
    };
    let Ok(issuer) = claims::issuer(&payload) else {
        return said;
    };
    let (own, ring) = (trusting(issuer, &payload), KeyRing::default());
    let ours = expectations.and_then(|table| table.authority(issuer, &ring));
    let Some(authority) = ours.or_else(|| own.authority(issuer, &ring)) else {
        return said;
    };
    let claims = match Claims::read(&payload, authority) {
        Ok(claims) => claims,
        Err(error) => return vec![(Stage::Claims, Err(error))],
    };
    said.push((Stage::Claims, Ok(())));
    said.push((Stage::Time, checks::time(&claims, authority, limits, now)));
    if ours.is_some() {
        said.push((
            Stage::Issuer,
            checks::one_issuer(&claims, issuer, authority),
        ));
        said.push((Stage::Audience, checks::audience(&claims, authority)));
    }
    let shown = thumbprint.or_else(|| claims.certificate().filter(|_| expectations.is_none()));
    let kind = kind::decide(&claims, authority, shown);
    if let Ok(kind) = kind {
        said.push((Stage::Kind, Ok(())));
        said.push((Stage::Rights, kind::rights(&claims, authority, kind)));
    } else {
        // One that is empty is told as that; of others the rights hang on the kind.
        said.push((Stage::Kind, kind.map(drop)));
    }
    said
}

/// Expectations that trust the token's own issuer: they give its claims their types, and no more.
fn trusting(issuer: &str, payload: &Object<'_>) -> Expectations {
    let mut table = Expectations::new(TokenLimits::default());
    let audience = payload
        .member("aud")
        .and_then(Value::as_str)
        .unwrap_or("unknown");
    let tenant = issuer.split('/').find(|segment| is_guid(segment));
    let base = tenant.and_then(|tid| issuer.split_once(&format!("/{tid}")));
    if let (Some(tid), Some((base, _))) = (tenant, base) {
        let known = [Cloud::public(), Cloud::us_government(), Cloud::china()];
        let known = known.into_iter().find(|cloud| {
            *cloud.v1_issuer_of(tid) == *issuer || *cloud.v2_issuer_of(tid) == *issuer
        });
        let entra = Entra {
            cloud: known.unwrap_or_else(|| Cloud::custom(base)),
            tenants: vec![tid.into()],
            audiences: vec![audience.into()],
            accept: Accept::ALL,
            v1_tokens: true,
            required_scope: None,
            keys_app_id: None,
            groups: GroupForm::Ids,
        };
        if table.add_entra(&entra).is_ok() && table.authority(issuer, &KeyRing::default()).is_some()
        {
            return table;
        }
    }
    let other = OtherIssuer {
        issuer: issuer.into(),
        audiences: vec![audience.into()],
        accept: Accept::ALL,
        required_scope: None,
        keys: None,
        groups: GroupForm::Ids,
        roles_claim: Vec::new(),
    };
    // An issuer that cannot be trusted at all stays unknown, which is what is said then.
    table.add_issuer(&other).ok();
    table
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn verdict(change: &serde_json::Value) -> Result<Kind, &'static str> {
        let tid = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";
        let mut claims = json!({
            "iss": format!("https://login.microsoftonline.com/{tid}/v2.0"), "tid": tid, "ver": "2.0",
            "oid": "c1f2a9a0-77b1-4c8e-9a39-3de0c0b54f02", "sub": "s", "aud": "b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771",
            "azp": "5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10", "azpacr": "0", "idtyp": "user", "scp": "Nats.Connect",
            "iat": 1_799_999_700_u64, "nbf": 1_799_999_700_u64, "exp": 1_800_003_600_u64,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "k" });
        let token = format!("{}.{}.c2ln", encode(&header), encode(&claims));
        decode(token.as_bytes(), NOW).map_err(|error| error.code())
    }

    #[test]
    fn what_any_listener_would_refuse_is_known_without_a_configuration() {
        let tid = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";
        for (change, wanted) in [
            (json!({}), Ok(Kind::User)),
            (json!({ "exp": 1_799_999_800_u64 }), Err("time.expired")),
            (
                json!({ "aud": "https://graph.microsoft.com" }),
                Err("aud.graph"),
            ),
            (json!({ "nonce": "x" }), Err("kind.id_token")),
            (json!({ "scp": " " }), Err("authz.empty")),
            (json!({ "roles": "Admin" }), Err("claims.roles")),
            (
                json!({
                    "iss": format!("https://sts.windows.net/{tid}/"), "ver": "1.0",
                    "appid": "5b7e92a4-0f5d-4f3f-9b06-6b1c7d3f9e10", "appidacr": "1",
                }),
                Ok(Kind::User),
            ),
            (
                json!({ "iss": "https://idp.example/", "azp": "x" }),
                Ok(Kind::User),
            ),
        ] {
            assert_eq!(verdict(&change), wanted, "{change}");
        }
        assert_eq!(decode(b"a.b", NOW).unwrap_err().code(), "prep");
    }
}
