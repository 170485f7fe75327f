//! What an identity provider sends: discovery metadata and key documents.

use natsentry::identity::{KeyLocation, KeySet, KeySource, Metadata};
use serde_json::Value;

/// A key document.
///
/// A set that is accepted is not empty, holds nothing but RSA keys of 2048 bits or more that are named once in the document,
/// and is the same whichever way the document is laid out.
pub fn key_document(data: &[u8]) {
    let set = match KeySet::parse(data) {
        Ok(set) => set,
        Err(error) => return is_one_plain_line(&error.to_string()),
    };
    assert!(!set.is_empty());
    let Some(document) = read_by_another(data) else {
        return;
    };
    let entries = document["keys"].as_array().expect("an array of keys");
    assert!(set.len() + set.skipped().len() >= entries.len().min(1));
    let mut kids: Vec<&str> = set.kids().collect();
    kids.sort_unstable();
    for kid in &kids {
        let named = |entry: &&Value| entry["kid"].as_str() == Some(kid);
        let mut of_this_name = entries.iter().filter(named);
        let entry = of_this_name.next().expect("a key of this name");
        assert!(of_this_name.next().is_none(), "{kid:?} names two keys");
        assert_eq!(entry["kty"], "RSA");
        assert!(entry["alg"].is_null() || entry["alg"] == "RS256");
        assert!(entry["use"].is_null() || entry["use"] == "sig");
        let modulus = entry["n"].as_str().expect("a modulus");
        // 2048 bits are 256 bytes, and those are 342 letters.
        assert!(modulus.len() >= 342, "{} letters of modulus", modulus.len());
        assert!(set.key(kid).is_some());
        assert!(set.key(&format!("{kid}x")).is_none() || kids.contains(&&*format!("{kid}x")));
    }
    for skipped in set.skipped() {
        is_one_plain_line(&format!("{} {}", skipped.kid, skipped.why));
    }
    let pretty = serde_json::to_vec_pretty(&document).expect("JSON");
    let again = KeySet::parse(&pretty).expect("the same document");
    let mut same: Vec<&str> = again.kids().collect();
    same.sort_unstable();
    assert_eq!(kids, same);
}

/// Discovery metadata, for a source of Entra and for one of another issuer.
///
/// Accepted documents are of the issuer that is expected, byte for byte.
pub fn metadata(data: &[u8]) {
    let tid = "11111111-2222-3333-4444-555555555555";
    let entra = format!("https://login.microsoftonline.com/{tid}/v2.0");
    for (issuer, tid) in [(&*entra, Some(tid)), ("https://issuer.example", None)] {
        let source = KeySource {
            name: "source".into(),
            location: KeyLocation::Metadata("https://issuer.example/metadata".into()),
            issuer: issuer.into(),
            reads_host: false,
            tid: tid.map(Into::into),
        };
        match Metadata::parse(data, &source) {
            Ok(read) => {
                let Some(document) = read_by_another(data) else {
                    continue;
                };
                assert_eq!(document["jwks_uri"], &*read.jwks_uri);
                let found = document["issuer"].as_str().expect("an issuer");
                let filled = tid.map_or(found.to_owned(), |tid| found.replace("{tenantid}", tid));
                assert_eq!(filled, issuer);
                assert_eq!(*read.issuer, *issuer);
                assert_eq!(
                    document["cloud_instance_name"].as_str(),
                    read.cloud.as_deref()
                );
            }
            Err(error) => is_one_plain_line(&error.to_string()),
        }
    }
}

/// The document as another parser reads it; nothing where members that nobody reads hold numbers beyond its range.
pub(super) fn read_by_another(data: &[u8]) -> Option<Value> {
    match serde_json::from_slice(data) {
        Err(error) if error.to_string().starts_with("number out of range") => None,
        value => Some(value.expect("what is accepted is JSON")),
    }
}

/// Nothing in it could begin a line of the log or steer a terminal.
pub(super) fn is_one_plain_line(text: &str) {
    let bad = text.chars().find(|c| c.is_control());
    assert_eq!(bad, None, "{text:?}");
    assert!(text.len() < 4096, "{} bytes", text.len());
}
