//! The file that a configuration came from, for finding the line of a rule.
//!
//! Owns: name, hash and the tree with positions. Must never: hand out the text.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::mistake::{Path, Position};
use super::tree::{Node, Value};

/// Where a configuration was read from.
#[derive(Clone)]
pub struct Source {
    file: Arc<str>,
    hash: Arc<str>,
    pub(super) tree: Arc<Node>,
}

impl Source {
    pub(super) fn new(file: &str, text: &str, tree: Node) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hash: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            file: file.into(),
            hash: hash.into(),
            tree: Arc::new(tree),
        }
    }

    /// What this file says otherwise than `begun`, with which the process began, and what only a restart brings into
    /// force: `LINE: section` of each. Roles, tests, upstreams, the vault and certificates are not among them.
    pub fn needs_restart(&self, begun: &Self) -> Vec<String> {
        let kept = KEPT.iter().filter(|path| {
            let path = path_of_words(path);
            match (self.tree.find(&path), begun.tree.find(&path)) {
                // What certificates it names is read anew; whether there is any is not.
                (Some(_), Some(_)) if path.ends_with(&["tls".into()]) => false,
                (Some(ours), Some(theirs)) => !ours.says_the_same_as(theirs),
                (None, None) => false,
                _ => true,
            }
        });
        let shown = |path: &&str| {
            let at = self.tree.position(&path_of_words(path), true);
            format!("{path} ({}:{})", self.file, at.line)
        };
        kept.map(shown).collect()
    }

    /// The file as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the file.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Where a rule stands, as `roles.writer.deny.publish[0]` (the form of [`crate::policy::Denial::rule`]). The
    /// nearest thing above it where the file has no such place; none where it has nothing of it.
    pub fn position(&self, rule: &str) -> Option<Position> {
        let path = self.path_of(rule);
        (!path.is_empty()).then(|| self.tree.position(&path, false))
    }

    /// `FILE:LINE` of a rule.
    pub fn line_of(&self, rule: &str) -> Option<String> {
        self.position(rule)
            .map(|at| format!("{}:{}", self.file, at.line))
    }

    /// Names of roles may hold dots, so the segments are found by walking the file.
    fn path_of(&self, rule: &str) -> Path {
        let mut path = Path::new();
        let mut node = &*self.tree;
        let mut rest = rule;
        while !rest.is_empty() {
            let next = match &node.value {
                Value::Mapping(entries) => entries
                    .iter()
                    .filter_map(|entry| {
                        let after = rest.strip_prefix(&*entry.key)?;
                        let ends = after.is_empty() || after.starts_with(['.', '[']);
                        ends.then(|| (entry.key.clone(), &entry.node, after))
                    })
                    .max_by_key(|(key, ..)| key.len()),
                Value::Sequence(items) => rest.strip_prefix('[').and_then(|after| {
                    let (index, after) = after.split_once(']')?;
                    let node = items.get(index.parse::<usize>().ok()?)?;
                    Some((index.into(), node, after))
                }),
                _ => None,
            };
            let Some((segment, child, after)) = next else {
                break;
            };
            path.push(segment);
            node = child;
            rest = after.strip_prefix('.').unwrap_or(after);
        }
        path
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .field("hash", &self.hash)
            .finish()
    }
}

fn path_of_words(path: &str) -> Path {
    path.split('.').map(Into::into).collect()
}

/// What a process keeps as it began, in the order in which people are told.
const KEPT: [&str; 21] = [
    "listen.client",
    "listen.tls",
    "listen.tls.mode",
    "listen.tls.first_wait",
    "listen.proxy_protocol",
    "listen.websocket",
    "admin",
    "entra.cloud",
    "entra.tenants",
    "entra.audiences",
    "entra.accept",
    "entra.v1_tokens",
    "entra.max_session",
    "entra.required_scope",
    "entra.keys_app_id",
    "entra.groups",
    "entra.graph",
    "issuers",
    "keys",
    "audit",
    "limits",
];

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn what_a_reload_leaves_as_it_was_is_named_with_its_line() {
        let source = |text: &str| Source::new("f.yaml", text, tree::parse(text).0.unwrap());
        let begun = source(
            "entra:\n  tenants: [a]\n  graph: { credential: managed-identity, lookups: 4 }\nlimits: { connections: 5 }\n",
        );
        let same = source(
            "# moved\n\nlimits:\n  connections: 5\nroles: {}\nentra:\n  graph:\n    lookups: 4\n    credential: managed-identity\n  tenants: [a]\n",
        );
        assert_eq!(same.needs_restart(&begun), Vec::<String>::new());
        let other = source(
            "entra:\n  tenants: [a, b]\n  graph: { credential: managed-identity, lookups: 5 }\nissuers: []\n",
        );
        assert_eq!(
            other.needs_restart(&begun),
            [
                "entra.tenants (f.yaml:2)",
                "entra.graph (f.yaml:3)",
                "issuers (f.yaml:4)",
                "limits (f.yaml:1)"
            ]
        );
    }

    #[test]
    fn a_rule_is_found_on_its_line_even_in_a_role_with_dots() {
        let text = "roles:\n  a.b:\n    publish:\n      - x\n      - y\n  a:\n    publish: [z]\n";
        let (tree, _) = tree::parse(text);
        let source = Source::new("f.yaml", text, tree.unwrap());
        assert_eq!(
            source.line_of("roles.a.b.publish[1]").as_deref(),
            Some("f.yaml:5")
        );
        assert_eq!(
            source.position("roles.a.publish[0]"),
            Some(Position::new(7, 15))
        );
        assert_eq!(
            source.line_of("roles.a.request[0]").as_deref(),
            Some("f.yaml:6")
        );
        assert_eq!(source.line_of("server"), None);
        assert_eq!(source.hash().len(), 16);
    }
}
