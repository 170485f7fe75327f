//! What Microsoft's own validators check (AadIssuerValidator, the signing key's issuer and cloud, audiences), as tables of
//! our own writing. Where the gate is stricter than they are, the row says so.
#![cfg(feature = "demo")]
#![allow(
    clippy::too_many_lines,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tables; a test that cannot set up has failed"
)]

use natsentry::demo::idp::{
    Directory, Form, SigningKey, TokenRequest, claims, header, patch, sign,
};
use natsentry::identity::{
    Accept, B2c, Cloud, Entra, Expectations, ExpectationsError, GroupForm, HeldKeys, KeyLocation,
    KeyRing, KeySet, KeySource, Metadata, MetadataError, TokenLimits, validate,
};
use natsentry::time::Timestamp;
use serde_json::{Map, Value, json};

const NOW: Timestamp = Timestamp::from_secs(1_795_452_000);
const TID: &str = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";
const OTHER_TID: &str = "11111111-2222-3333-4444-555555555555";
const V1: &str = "https://sts.windows.net/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11/";
const V2: &str = "https://login.microsoftonline.com/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11/v2.0";
const V2_TEMPLATE: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";

fn entra(cloud: Cloud, v1_tokens: bool) -> Entra {
    let directory = Directory::default();
    Entra {
        cloud,
        tenants: vec![TID.into()],
        audiences: vec![
            directory.api.as_str().into(),
            directory.app_id_uri.as_str().into(),
        ],
        accept: Accept::ALL,
        v1_tokens,
        required_scope: None,
        keys_app_id: None,
        groups: GroupForm::Ids,
    }
}

/// One key, and what the key document and the metadata say of it.
struct Keys {
    signer: SigningKey,
    issuer: Option<&'static str>,
    cloud: Option<&'static str>,
    metadata_cloud: Option<&'static str>,
    more: Map<String, Value>,
}

impl Keys {
    fn new() -> Self {
        Self {
            signer: SigningKey::generate().unwrap(),
            issuer: None,
            cloud: None,
            metadata_cloud: None,
            more: Map::new(),
        }
    }

    fn ring(&self, table: &Expectations) -> KeyRing {
        let mut jwk = self.signer.jwk();
        for (name, value) in [("issuer", self.issuer), ("cloud_instance_name", self.cloud)] {
            if let Some(value) = value {
                jwk[name] = value.into();
            }
        }
        for (name, value) in &self.more {
            jwk[name] = value.clone();
        }
        let keys = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        (0..table.sources().len()).fold(KeyRing::empty(table.sources().len()), |ring, source| {
            let held = HeldKeys {
                keys: keys.clone(),
                fetched_at: NOW,
                good_until: NOW.plus(std::time::Duration::from_secs(3600)),
                cloud: self.metadata_cloud.map(Into::into),
                issuer: None,
            };
            ring.with(source, held)
        })
    }

    /// A token of Alice with these claims changed; null removes one.
    fn token(&self, form: Form, changes: &Value) -> Vec<u8> {
        let request = TokenRequest::of("alice");
        let mut payload = claims(
            &Directory::default(),
            "https://x.example",
            &request,
            form,
            NOW,
        )
        .unwrap();
        payload.insert("tid".into(), TID.into());
        payload.insert("iss".into(), if form == Form::V1 { V1 } else { V2 }.into());
        patch(&mut payload, changes.as_object().unwrap());
        let head = Value::Object(header(&self.signer, form)).to_string();
        let payload = Value::Object(payload).to_string();
        sign(head.as_bytes(), payload.as_bytes(), &self.signer)
            .unwrap()
            .into_bytes()
    }

    fn verdict(&self, table: &Expectations, token: &[u8]) -> &'static str {
        match validate(token, &self.ring(table), table, NOW) {
            Ok(_) => "accept",
            Err(error) => error.code(),
        }
    }
}

fn source(issuer: &str) -> KeySource {
    KeySource {
        name: "test".into(),
        location: KeyLocation::Metadata("https://login.example/x".into()),
        issuer: issuer.into(),
        reads_host: false,
        tid: Some(TID.into()),
    }
}

#[test]
fn templates_of_the_metadata() {
    let rows = [
        (
            "v1 template, v1 issuer",
            "https://sts.windows.net/{tenantid}/",
            V1,
            true,
        ),
        ("v2 template, v2 issuer", V2_TEMPLATE, V2, true),
        ("already holding the tenant, v1", V1, V1, true),
        ("already holding the tenant, v2", V2, V2, true),
        (
            "v1 template, v2 issuer",
            "https://sts.windows.net/{tenantid}/",
            V2,
            false,
        ),
        ("v2 template, v1 issuer", V2_TEMPLATE, V1, false),
        (
            "pre-production template",
            "https://sts.windows-ppe.net/{tenantid}/",
            V1,
            false,
        ),
        (
            "pre-production, tenant-specific",
            "https://login.windows-ppe.net/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11/v2.0",
            V2,
            false,
        ),
        (
            "another tenant",
            "https://sts.windows.net/11111111-2222-3333-4444-555555555555/",
            V1,
            false,
        ),
        ("empty", "", V2, false),
    ];
    for (what, said, expected, fits) in rows {
        let document = json!({ "issuer": said, "jwks_uri": "https://login.example/keys" });
        let read = Metadata::parse(document.to_string().as_bytes(), &source(expected));
        assert_eq!(read.is_ok(), fits, "{what}: {read:?}");
    }
    for document in [
        json!({ "jwks_uri": "x" }),
        json!({ "issuer": null, "jwks_uri": "x" }),
    ] {
        let read = Metadata::parse(document.to_string().as_bytes(), &source(V2));
        assert_eq!(
            read,
            Err(MetadataError::Missing("issuer")),
            "metadata without issuer"
        );
    }
}

#[test]
fn authorities() {
    let with = |authority: &str| Expectations::entra(&entra(Cloud::custom(authority), true));
    for bad in [
        "",
        " ",
        "login.microsoftonline.com",
        "http://login.microsoftonline.com",
        "https://",
    ] {
        assert!(
            matches!(with(bad), Err(ExpectationsError::Address(_))),
            "{bad:?}"
        );
    }
    assert!(
        with("https://login.example.com/").is_ok(),
        "a final slash is no part of it"
    );
    for alias in ["common", "organizations", "consumers"] {
        let aliased = Entra {
            tenants: vec![alias.into()],
            ..entra(Cloud::public(), false)
        };
        // Stricter: their issuer is a template, with which anybody's tenant would do.
        assert!(matches!(
            Expectations::entra(&aliased),
            Err(ExpectationsError::Alias(_))
        ));
    }
    let two = Entra {
        tenants: vec![TID.into(), OTHER_TID.into()],
        ..entra(Cloud::public(), false)
    };
    let table = Expectations::entra(&two).unwrap();
    assert_eq!(
        table.sources().len(),
        2,
        "two tenants do not share their keys"
    );
    let keys = Keys::new();
    let only_the_other = KeyRing::empty(2).with(1, (**keys.ring(&table).held(1).unwrap()).clone());
    let verdict = validate(
        &keys.token(Form::V2, &json!({})),
        &only_the_other,
        &table,
        NOW,
    );
    assert_eq!(verdict.unwrap_err().code(), "key.unavailable");
    let b2c = json!({ "iss": format!("https://contoso.b2clogin.com/{TID}/v2.0/") });
    assert_eq!(
        keys.verdict(&table, &keys.token(Form::V2, &b2c)),
        "iss.other",
        "the host of B2C is no alias"
    );
}

#[test]
fn issuers() {
    let keys = Keys::new();
    let gov = format!("https://login.microsoftonline.us/{TID}/v2.0");
    let public = |v1| Expectations::entra(&entra(Cloud::public(), v1)).unwrap();
    let usgov = Expectations::entra(&entra(Cloud::us_government(), true)).unwrap();
    let rows = [
        (
            "v2 in a list of several",
            public(true),
            Form::V2,
            json!({}),
            "accept",
        ),
        (
            "v1 in a list of several",
            public(true),
            Form::V1,
            json!({}),
            "accept",
        ),
        (
            "v2 where v2 alone is accepted",
            public(false),
            Form::V2,
            json!({}),
            "accept",
        ),
        (
            "v1 where v2 alone is accepted",
            public(false),
            Form::V1,
            json!({}),
            "iss.v1-for-v2",
        ),
        (
            "US Gov, v2",
            usgov.clone(),
            Form::V2,
            json!({ "iss": gov }),
            "accept",
        ),
        ("US Gov, v1", usgov.clone(), Form::V1, json!({}), "accept"),
        (
            "US Gov issuer, public table",
            public(true),
            Form::V2,
            json!({ "iss": gov }),
            "iss.cloud",
        ),
        (
            "public issuer, US Gov table",
            usgov,
            Form::V2,
            json!({}),
            "iss.cloud",
        ),
        (
            "literal {tenantid}",
            public(true),
            Form::V2,
            json!({ "iss": V2_TEMPLATE }),
            "iss.other",
        ),
        (
            "no issuer",
            public(true),
            Form::V2,
            json!({ "iss": null }),
            "claims.iss",
        ),
        (
            "empty issuer",
            public(true),
            Form::V2,
            json!({ "iss": "" }),
            "iss.other",
        ),
        (
            "issuer without a tenant",
            public(true),
            Form::V2,
            json!({ "iss": "https://login.microsoftonline.com/v2.0" }),
            "iss.other",
        ),
        (
            "foreign issuer",
            public(true),
            Form::V2,
            json!({ "iss": "https://sts.example.com/" }),
            "iss.other",
        ),
        (
            "another tenant's issuer",
            public(true),
            Form::V2,
            json!({ "iss": V2.replace(TID, OTHER_TID) }),
            "iss.tenant",
        ),
        (
            "the tid of another tenant",
            public(true),
            Form::V2,
            json!({ "tid": OTHER_TID }),
            "iss.tid",
        ),
        (
            "v1 issuer, ver 2.0",
            public(true),
            Form::V1,
            json!({ "ver": "2.0" }),
            "claims.ver",
        ),
        (
            "v2 issuer, ver 1.0",
            public(true),
            Form::V2,
            json!({ "ver": "1.0" }),
            "claims.ver",
        ),
        (
            "v1.1 style version",
            public(true),
            Form::V2,
            json!({ "ver": "1.1" }),
            "claims.ver",
        ),
        (
            "ver 3.0",
            public(true),
            Form::V2,
            json!({ "ver": "3.0" }),
            "claims.ver",
        ),
        (
            "no ver",
            public(true),
            Form::V2,
            json!({ "ver": null }),
            "claims.ver",
        ),
        // Stricter than theirs, which take the tenant from the issuer or from the long claim of old.
        (
            "tid in the issuer alone",
            public(true),
            Form::V2,
            json!({ "tid": null }),
            "claims.tid",
        ),
        (
            "tid in the claim of old",
            public(true),
            Form::V2,
            json!({ "tid": null, "http://schemas.microsoft.com/identity/claims/tenantid": TID }),
            "claims.tid",
        ),
        (
            "empty tid",
            public(true),
            Form::V2,
            json!({ "tid": "" }),
            "claims.tid",
        ),
    ];
    for (what, table, form, changes, verdict) in rows {
        assert_eq!(
            keys.verdict(&table, &keys.token(form, &changes)),
            verdict,
            "{what}"
        );
    }
}

#[test]
fn b2c() {
    let keys = Keys::new();
    let table = |authority: &str| {
        let mut table = Expectations::new(TokenLimits::default());
        let audiences = vec![Directory::default().api.as_str().into()];
        table
            .add_b2c(&B2c {
                authority: authority.into(),
                tenant: TID.into(),
                policies: vec!["B2C_1_susi".into()],
                audiences,
                accept: Accept::ALL,
                required_scope: None,
            })
            .unwrap();
        table
    };
    let host = "https://contoso.b2clogin.com";
    let iss = |host: &str| format!("{host}/{TID}/v2.0/");
    let token = |changes: Value| {
        let mut all = json!({ "ver": "1.0", "tfp": "B2C_1_susi", "idtyp": null, "iss": iss(host) });
        patch(all.as_object_mut().unwrap(), changes.as_object().unwrap());
        if changes.get("tid").is_some_and(Value::is_null) {
            all["tid"] = Value::Null;
        }
        keys.token(Form::V2, &all)
    };
    let rows = [
        ("with tid", json!({}), "accept"),
        ("without tid", json!({ "tid": null }), "accept"),
        (
            "wrong issuer",
            json!({ "iss": iss("https://fabrikam.b2clogin.com") }),
            "iss.other",
        ),
        ("wrong tid", json!({ "tid": OTHER_TID }), "iss.tid"),
        (
            "tfp in the issuer",
            json!({ "iss": format!("{host}/tfp/{TID}/b2c_1_susi/v2.0/") }),
            "iss.tfp",
        ),
        (
            "another policy",
            json!({ "tfp": "B2C_1_reset" }),
            "iss.policy",
        ),
        (
            "final slash missing",
            json!({ "iss": format!("{host}/{TID}/v2.0") }),
            "iss.other",
        ),
    ];
    for (what, changes, verdict) in rows {
        assert_eq!(
            keys.verdict(&table(host), &token(changes)),
            verdict,
            "{what}"
        );
    }
    let custom = "https://login.contoso.example";
    let own = token(json!({ "iss": iss(custom) }));
    assert_eq!(
        keys.verdict(&table(custom), &own),
        "accept",
        "custom domain"
    );
    assert_eq!(keys.verdict(&table(host), &own), "iss.other");
    let tfp = json!({ "issuer": format!("{host}/tfp/{TID}/b2c_1_susi/v2.0/"), "jwks_uri": "x" });
    let read = Metadata::parse(tfp.to_string().as_bytes(), &source(&iss(host)));
    assert!(matches!(read, Err(MetadataError::Tfp(_))), "{read:?}");
}

#[test]
fn the_issuer_and_the_cloud_of_the_signing_key() {
    let table = Expectations::entra(&entra(Cloud::public(), true)).unwrap();
    let mut keys = Keys::new();
    let (v1, v2) = (
        keys.token(Form::V1, &json!({})),
        keys.token(Form::V2, &json!({})),
    );
    let foreign = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
    let rows = [
        ("no issuer", None, "accept", "accept"),
        ("blank issuer", Some(" "), "accept", "accept"),
        ("template", Some(V2_TEMPLATE), "accept", "accept"),
        ("concrete", Some(V2), "accept", "accept"),
        ("concrete, of v1", Some(V1), "key.issuer", "accept"),
        (
            "another tenant's",
            Some(foreign),
            "key.issuer",
            "key.issuer",
        ),
        (
            "another host's",
            Some("https://login.microsoftonline.us/{tenantid}/v2.0"),
            "key.issuer",
            "key.issuer",
        ),
    ];
    for (what, issuer, of_v2, of_v1) in rows {
        keys.issuer = issuer;
        assert_eq!(keys.verdict(&table, &v2), of_v2, "{what}, v2 token");
        assert_eq!(keys.verdict(&table, &v1), of_v1, "{what}, v1 token");
    }
    keys.issuer = Some(V2_TEMPLATE);
    let (public, gov) = ("microsoftonline.com", "microsoftonline.us");
    for (of_key, of_metadata, verdict) in [
        (Some(public), Some(public), "accept"),
        (Some(public), Some(gov), "key.cloud"),
        (None, Some(public), "accept"),
        (Some(public), None, "accept"),
        (None, None, "accept"),
    ] {
        (keys.cloud, keys.metadata_cloud) = (of_key, of_metadata);
        assert_eq!(
            keys.verdict(&table, &v2),
            verdict,
            "{of_key:?} {of_metadata:?}"
        );
    }
    (keys.cloud, keys.metadata_cloud) = (None, None);
    // Certificates are not looked at: TLS to the metadata's host is the anchor of trust, so an expired one changes nothing.
    keys.more.insert("x5c".into(), json!(["not a certificate"]));
    assert_eq!(keys.verdict(&table, &v2), "accept");
}

#[test]
fn signing_keys_that_are_not_there_and_tokens_that_are_none() {
    let table = Expectations::entra(&entra(Cloud::public(), true)).unwrap();
    let keys = Keys::new();
    let token = keys.token(Form::V2, &json!({}));
    let none = KeyRing::empty(table.sources().len());
    assert_eq!(
        validate(&token, &none, &table, NOW).unwrap_err().code(),
        "key.unavailable",
        "no configuration"
    );
    assert!(
        KeySet::parse(b"{\"keys\":[]}").is_err(),
        "an empty set never takes the place of one"
    );
    assert_eq!(
        Keys::new().verdict(&table, &token),
        "key.unknown",
        "no key of that name"
    );
    let text = String::from_utf8(token).unwrap();
    let (signed, _) = text.rsplit_once('.').unwrap();
    assert_eq!(
        keys.verdict(&table, format!("{signed}.").as_bytes()),
        "sig.bad",
        "unsigned"
    );
    assert_eq!(keys.verdict(&table, b""), "prep", "null token");
    assert_eq!(
        keys.verdict(&table, b"a.b.c.d.e"),
        "prep",
        "another class of token"
    );
    let twice = |first: &str, second: &str| {
        let payload = Value::Object(
            claims(
                &Directory::default(),
                "https://x.example",
                &TokenRequest::of("alice"),
                Form::V2,
                NOW,
            )
            .unwrap(),
        );
        let mut payload = payload.to_string();
        payload.pop();
        let rest = payload.replacen('{', "", 1);
        let rest = rest
            .replacen("\"tid\"", "\"was\"", 1)
            .replacen("\"iss\"", "\"of\"", 1);
        let payload = format!("{{\"iss\":\"{V2}\",{first},{rest},{second}}}");
        let head = Value::Object(header(&keys.signer, Form::V2)).to_string();
        sign(head.as_bytes(), payload.as_bytes(), &keys.signer)
            .unwrap()
            .into_bytes()
    };
    let (ours, theirs) = (
        format!("\"tid\":\"{TID}\""),
        format!("\"tid\":\"{OTHER_TID}\""),
    );
    let upper = format!("\"TID\":\"{TID}\"");
    for (first, second) in [
        (&ours, &theirs),
        (&theirs, &ours),
        (&ours, &upper),
        (&upper, &ours),
    ] {
        assert_eq!(
            keys.verdict(&table, &twice(first, second)),
            "claims.duplicate",
            "{first} {second}"
        );
    }
    assert_eq!(
        keys.verdict(&table, &twice("\"x\":1", &upper)),
        "claims.duplicate",
        "TID alone"
    );
}

#[test]
fn audiences() {
    let keys = Keys::new();
    let directory = Directory::default();
    let (api, uri) = (directory.api.as_str(), directory.app_id_uri.as_str());
    let with = |list: &[&str]| {
        let audiences = list.iter().map(|text| Box::from(*text)).collect();
        Expectations::entra(&Entra {
            audiences,
            ..entra(Cloud::public(), true)
        })
        .unwrap()
    };
    let prefixed = format!("api://{api}");
    let rows = [
        (
            "v1, api://{clientId}",
            Form::V1,
            prefixed.as_str(),
            vec![prefixed.as_str()],
            "accept",
        ),
        (
            "v1, client id where the URI is expected",
            Form::V1,
            api,
            vec![prefixed.as_str()],
            "aud.other",
        ),
        ("v2, client id", Form::V2, api, vec![api], "accept"),
        (
            "v2, api://{clientId} where the id is expected",
            Form::V2,
            prefixed.as_str(),
            vec![api],
            "aud.prefix",
        ),
        ("an explicit list", Form::V1, uri, vec![api, uri], "accept"),
        (
            "a final slash counts",
            Form::V1,
            "api://nats-dev/",
            vec![uri],
            "aud.prefix",
        ),
        (
            "another application",
            Form::V2,
            OTHER_TID,
            vec![api, uri],
            "aud.other",
        ),
        (
            "Microsoft Graph",
            Form::V2,
            "https://graph.microsoft.com",
            vec![api],
            "aud.graph",
        ),
    ];
    for (what, form, audience, listed, verdict) in rows {
        let token = keys.token(form, &json!({ "aud": audience }));
        assert_eq!(keys.verdict(&with(&listed), &token), verdict, "{what}");
    }
}
