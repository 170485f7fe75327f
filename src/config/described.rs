//! An identity in words, as `oid=...,app_roles=Nats.Write`: the `as` of a test, on one line.
//!
//! Owns: the short form. Must never: know other keys than the tests have.

use super::mistake::{Position, show_path};
use super::recover;
use super::tree::{self, Entry, Node, Value};
use crate::policy::document::TestIdentity;

/// Keys that hold lists; in the short form a key is written again for each value.
const LISTS: [&str; 5] = ["app_roles", "groups", "scopes", "acrs", "amr"];

/// Reads `key=value` pairs with commas between them, or the mapping that a test has after `as:` (`{ oid: ... }`).
/// `claims.NAME=value` sets a claim for templates.
///
/// # Errors
/// Everything that is wrong with it, in one sentence.
pub fn described_identity(text: &str) -> Result<TestIdentity, String> {
    let node = if text.trim_start().starts_with('{') {
        let (node, flaws) = tree::parse(text);
        match (node, flaws.first()) {
            (Some(node), None) => node,
            (_, Some(flaw)) => return Err(flaw.message.clone()),
            (None, None) => return Err("nothing is written".to_owned()),
        }
    } else {
        pairs(text)?
    };
    let reading = recover::read::<TestIdentity>(&node);
    let mistakes: Vec<String> = reading
        .mistakes
        .iter()
        .map(|mistake| format!("{}: {}", show_path(&mistake.path), mistake.message))
        .collect();
    match reading.value {
        Some(identity) if mistakes.is_empty() => Ok(identity),
        _ => Err(mistakes.join("; ")),
    }
}

fn pairs(text: &str) -> Result<Node, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut claims: Vec<Entry> = Vec::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(format!(
                "`{pair}` has no `=`; write key=value, as oid=...,app_roles=Nats.Write"
            ));
        };
        let (key, value) = (key.trim(), scalar(value.trim()));
        if let Some(claim) = key.strip_prefix("claims.") {
            claims.push(entry(claim, value));
            continue;
        }
        let known = entries.iter_mut().find(|entry| &*entry.key == key);
        match known.map(|entry| &mut entry.node.value) {
            Some(Value::Sequence(items)) => items.push(value),
            Some(_) => return Err(format!("`{key}` is written twice")),
            None if LISTS.contains(&key) => {
                entries.push(entry(key, node(Value::Sequence(vec![value]))));
            }
            None => entries.push(entry(key, value)),
        }
    }
    if !claims.is_empty() {
        entries.push(entry("claims", node(Value::Mapping(claims))));
    }
    Ok(node(Value::Mapping(entries)))
}

fn node(value: Value) -> Node {
    Node {
        at: Position::new(1, 1),
        value,
    }
}

fn scalar(text: &str) -> Node {
    node(Value::Scalar {
        text: text.into(),
        plain: true,
    })
}

fn entry(key: &str, node: Node) -> Entry {
    Entry {
        key: key.into(),
        key_at: Position::new(1, 1),
        node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_the_mapping_of_a_test_say_the_same() {
        let short = "oid=o-1, app_roles=A,app_roles=B, azpacr=2, source=10.0.0.1, claims.dept=x";
        let long =
            "{ oid: o-1, app_roles: [A, B], azpacr: 2, source: 10.0.0.1, claims: { dept: x } }";
        assert_eq!(described_identity(short), described_identity(long));
        assert_eq!(described_identity(short).unwrap().app_roles, ["A", "B"]);
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        let error = described_identity("app_role=A,azpacr=x").unwrap_err();
        assert!(error.contains("did you mean `app_roles`?"), "{error}");
        assert!(error.contains("azpacr: expected a whole number"), "{error}");
        assert!(
            described_identity("oid")
                .unwrap_err()
                .contains("has no `=`")
        );
    }
}
