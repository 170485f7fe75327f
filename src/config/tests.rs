//! The example, the schema and the types say the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::mistake::{Path, Position};
use super::tree::{Entry, Node, Value};
use super::{Document, Mistake, json_schema, recover, show_path, tree};

const EXAMPLE: &str = include_str!("../../deploy/natsentry.example.yaml");

fn example() -> Node {
    let (tree, flaws) = tree::parse(EXAMPLE);
    assert!(flaws.is_empty(), "{flaws:?}");
    tree.unwrap()
}

/// The schema with every `$ref` at its top followed; other keywords beside it are descriptions.
fn follow<'a>(root: &'a Json, mut schema: &'a Json) -> &'a Json {
    while let Some(name) = schema["$ref"].as_str() {
        schema = root.pointer(name.strip_prefix('#').unwrap()).unwrap();
    }
    schema
}

/// What is wrong with a node by the schema; the subset of keywords that schemars writes for our types.
fn complaints(root: &Json, schema: &Json, node: &Node, path: &str) -> Vec<String> {
    let schema = follow(root, schema);
    for keyword in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[keyword].as_array() {
            let fits = choices
                .iter()
                .any(|one| complaints(root, one, node, path).is_empty());
            return if fits {
                vec![]
            } else {
                vec![format!("{path}: no choice of {keyword} fits")]
            };
        }
    }
    if let Some(word) = schema["const"].as_str() {
        let fits = matches!(&node.value, Value::Scalar { text, .. } if **text == *word);
        return if fits {
            vec![]
        } else {
            vec![format!("{path}: not {word}")]
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        let fits =
            matches!(&node.value, Value::Scalar { text, .. } if words.iter().any(|w| w == &**text));
        return if fits {
            vec![]
        } else {
            vec![format!("{path}: none of {words:?}")]
        };
    }
    let types: Vec<&str> = match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(many) => many.iter().filter_map(Json::as_str).collect(),
        _ => return vec![],
    };
    let kind = match &node.value {
        Value::Mapping(_) => "object",
        Value::Sequence(_) => "array",
        Value::Scalar { .. } if node.is_null() => "null",
        Value::Scalar { text, plain: true }
            if types.contains(&"integer") && text.parse::<i64>().is_ok() =>
        {
            "integer"
        }
        Value::Scalar { text, plain: true }
            if types.contains(&"boolean") && (&**text == "true" || &**text == "false") =>
        {
            "boolean"
        }
        _ => "string",
    };
    if !types.contains(&kind) {
        return vec![format!("{path}: {kind} instead of {types:?}")];
    }
    match &node.value {
        Value::Mapping(entries) => keys_that_do_not_fit(root, schema, entries, path),
        Value::Sequence(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| {
                complaints(root, &schema["items"], item, &format!("{path}[{index}]"))
            })
            .collect(),
        _ => vec![],
    }
}

fn keys_that_do_not_fit(root: &Json, schema: &Json, entries: &[Entry], path: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in entries {
        let below = format!("{path}.{}", entry.key);
        match (
            &schema["properties"][&*entry.key],
            &schema["additionalProperties"],
        ) {
            (Json::Null, Json::Bool(false)) => wrong.push(format!("{below}: not in the schema")),
            (Json::Null, Json::Null) => {}
            (Json::Null, other) => wrong.extend(complaints(root, other, &entry.node, &below)),
            (known, _) => wrong.extend(complaints(root, known, &entry.node, &below)),
        }
    }
    let keys: Vec<&str> = entries.iter().map(|entry| &*entry.key).collect();
    for required in schema["required"].as_array().into_iter().flatten() {
        if !keys.contains(&required.as_str().unwrap()) {
            wrong.push(format!("{path}: {required} is missing"));
        }
    }
    wrong
}

#[test]
fn the_example_fits_the_schema() {
    let schema = json_schema();
    assert_eq!(complaints(&schema, &schema, &example(), ""), [""; 0]);
}

#[test]
fn a_file_with_mistakes_does_not_fit_the_schema() {
    let schema = json_schema();
    let (tree, _) = tree::parse(
        "version: 1\nlisten: { client: 1.2.3.4:5, tls: { mode: on } }\nupstreams: []\nx: 1\n",
    );
    let wrong = complaints(&schema, &schema, &tree.unwrap(), "");
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}

/// Puts a key into every mapping that no mapping of ours has.
fn add_strays(node: &mut Node) {
    match &mut node.value {
        Value::Mapping(entries) => {
            entries
                .iter_mut()
                .for_each(|entry| add_strays(&mut entry.node));
            let at = Position::new(1, 1);
            let node = Node {
                at,
                value: Value::Scalar {
                    text: "".into(),
                    plain: true,
                },
            };
            entries.push(Entry {
                key: STRAY.into(),
                key_at: at,
                node,
            });
        }
        Value::Sequence(items) => items.iter_mut().for_each(add_strays),
        _ => {}
    }
}

const STRAY: &str = "zzzzzzzzzzzz";

/// Every mapping of the example with the keys that the schema has there.
fn schema_keys(
    root: &Json,
    schema: &Json,
    node: &Node,
    path: &Path,
    found: &mut BTreeMap<String, BTreeSet<String>>,
) {
    let schema = follow(root, schema);
    for keyword in ["anyOf", "oneOf"] {
        let choices = schema[keyword].as_array().into_iter().flatten();
        for choice in choices.filter(|choice| complaints(root, choice, node, "").is_empty()) {
            schema_keys(root, choice, node, path, found);
        }
    }
    match &node.value {
        Value::Mapping(entries) => {
            if let Some(properties) = schema["properties"].as_object() {
                found.insert(show_path(path), properties.keys().cloned().collect());
            }
            for entry in entries {
                let mut below = path.clone();
                below.push(entry.key.clone());
                let schema = match &schema["properties"][&*entry.key] {
                    Json::Null => &schema["additionalProperties"],
                    known => known,
                };
                schema_keys(root, schema, &entry.node, &below, found);
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                let mut below = path.clone();
                below.push(index.to_string().into());
                schema_keys(root, &schema["items"], item, &below, found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_has_the_keys_that_serde_reads() {
    let schema = json_schema();
    let mut by_schema = BTreeMap::new();
    schema_keys(&schema, &schema, &example(), &Path::new(), &mut by_schema);
    let mut strays = example();
    add_strays(&mut strays);
    let keys_of = |mistake: &Mistake| -> Option<(String, BTreeSet<String>)> {
        let (key, parent) = mistake.path.split_last()?;
        let list = mistake
            .message
            .strip_prefix(&format!("unknown key `{STRAY}`; the keys here are "))?;
        (**key == *STRAY).then(|| {
            (
                show_path(parent),
                list.split(", ").map(str::to_owned).collect(),
            )
        })
    };
    let by_serde: BTreeMap<_, _> = recover::read::<Document>(&strays)
        .mistakes
        .iter()
        .filter_map(keys_of)
        .collect();
    assert!(by_serde.len() > 40, "{}", by_serde.len());
    assert_eq!(by_serde, by_schema);
}

#[test]
fn the_example_names_every_key() {
    let schema = json_schema();
    let reserved = ["websocket"];
    let defs = schema["$defs"].as_object().unwrap();
    let objects = defs.values().chain([&schema]);
    let keys = objects
        .filter_map(|object| object["properties"].as_object())
        .flat_map(|p| p.keys());
    let absent: BTreeSet<&String> = keys
        .filter(|key| !reserved.contains(&key.as_str()))
        .filter(|key| !EXAMPLE.contains(&format!("{key}:")))
        .collect();
    assert!(absent.is_empty(), "{absent:?}");
}
