//! The table: what it takes and what it refuses.

use super::*;
use crate::identity::Accept;

const TID: &str = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";

fn entra() -> Entra {
    Entra {
        cloud: Cloud::public(),
        tenants: vec![TID.into()],
        audiences: vec!["b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771".into()],
        accept: Accept::ALL,
        v1_tokens: true,
        required_scope: None,
        keys_app_id: None,
        groups: GroupForm::Ids,
    }
}

#[test]
fn a_tenant_has_a_source_for_each_version_of_its_tokens() {
    let table = Expectations::entra(&entra()).unwrap();
    let urls: Vec<_> = table
        .sources()
        .iter()
        .map(|source| source.location.url())
        .collect();
    assert_eq!(
        urls,
        [
            format!(
                "https://login.microsoftonline.com/{TID}/v2.0/.well-known/openid-configuration"
            ),
            format!("https://login.microsoftonline.com/{TID}/.well-known/openid-configuration"),
        ]
    );
    let without = Expectations::entra(&Entra {
        v1_tokens: false,
        ..entra()
    })
    .unwrap();
    assert_eq!(without.sources().len(), 1);
}

#[test]
fn aliases_and_other_spellings_of_tenants_are_refused() {
    let with = |tid: &str| {
        Expectations::entra(&Entra {
            tenants: vec![tid.into()],
            ..entra()
        })
    };
    for alias in ["common", "organizations", "consumers"] {
        assert!(matches!(with(alias), Err(ExpectationsError::Alias(_))));
    }
    assert!(matches!(
        with(&TID.to_uppercase()),
        Err(ExpectationsError::Tenant(_))
    ));
    let none = Expectations::entra(&Entra {
        tenants: vec![],
        ..entra()
    });
    assert!(matches!(none, Err(ExpectationsError::NoTenant)));
}

#[test]
fn audiences_are_ones_own() {
    let with = |list: Vec<Box<str>>| {
        Expectations::entra(&Entra {
            audiences: list,
            ..entra()
        })
    };
    assert!(matches!(
        with(vec![]),
        Err(ExpectationsError::NoAudience(_))
    ));
    assert!(matches!(
        with(vec!["https://graph.microsoft.com".into()]),
        Err(ExpectationsError::MicrosoftAudience(..))
    ));
}

#[test]
fn no_two_sources_have_one_name() {
    let mut table = Expectations::entra(&entra()).unwrap();
    let elsewhere = Entra {
        cloud: Cloud::custom("http://127.0.0.1:9333"),
        ..entra()
    };
    table.add_entra(&elsewhere).unwrap();
    let names = table.sources().iter().map(|source| &*source.name);
    let names: std::collections::BTreeSet<&str> = names.collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.contains(&*format!("entra-v2-{TID}")));
}

#[test]
fn an_issuer_listed_twice_is_refused() {
    let mut table = Expectations::entra(&entra()).unwrap();
    assert!(matches!(
        table.add_entra(&entra()),
        Err(ExpectationsError::Twice(_))
    ));
}
