//! YAML events to nodes, with bounds on depth and size and without duplicate keys.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::super::mistake::{Path, Position};
use super::{Entry, Flaw, Node, Value};

/// Deepest nesting of lists and mappings; the real schema needs seven.
const DEPTH_MAX: usize = 32;

/// Most nodes in one file, repeated aliases included: what stops an alias bomb.
const NODES_MAX: usize = 200_000;

/// Reads one YAML document. An empty file is an empty mapping. The tree is none only when the YAML cannot be read on.
pub(in crate::config) fn parse(text: &str) -> (Option<Node>, Vec<Flaw>) {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = match next {
            Ok(pair) => pair,
            Err(error) => {
                let mark = error.marker();
                builder.flaw(
                    Position::new(mark.line(), mark.col().saturating_add(1)),
                    format!("this is not valid YAML: {}", error.info()),
                );
                return (None, builder.flaws);
            }
        };
        if builder.take(event, span).is_err() {
            return (None, builder.flaws);
        }
    }
    let root = builder.root.unwrap_or_else(|| Node {
        at: Position::new(1, 1),
        value: Value::Mapping(Vec::new()),
    });
    (Some(root), builder.flaws)
}

/// The YAML cannot be read any further; the flaw is recorded.
struct Stop;

/// An open list or mapping.
struct Frame {
    at: Position,
    anchor: usize,
    kind: FrameKind,
}

enum FrameKind {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        key: Option<(Box<str>, Position)>,
    },
}

#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    flaws: Vec<Flaw>,
    nodes: usize,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let at = Position::new(span.start.line(), span.start.col().saturating_add(1));
        match event {
            Event::DocumentStart(_) => {
                self.documents = self.documents.saturating_add(1);
                if self.documents > 1 {
                    self.flaw(
                        at,
                        "a second document (`---`) is not read; keep one".to_owned(),
                    );
                    return Err(Stop);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let string_tag = tag.as_ref().is_some_and(|tag| is_string_tag(tag));
                if let Some(tag) = tag.filter(|_| !string_tag) {
                    self.flaw(
                        at,
                        format!("YAML tags have no meaning here; remove `{tag}`"),
                    );
                }
                let plain = style == ScalarStyle::Plain && !string_tag;
                let value = Value::Scalar {
                    text: text.into_owned().into_boxed_str(),
                    plain,
                };
                self.finish(Node { at, value }, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(at, anchor, tag.is_some(), FrameKind::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                let kind = FrameKind::Mapping {
                    entries: Vec::new(),
                    key: None,
                };
                self.open(at, anchor, tag.is_some(), kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.frames.pop() {
                    let value = match frame.kind {
                        FrameKind::Sequence(items) => Value::Sequence(items),
                        FrameKind::Mapping { entries, .. } => Value::Mapping(entries),
                    };
                    self.finish(
                        Node {
                            at: frame.at,
                            value,
                        },
                        frame.anchor,
                    )?;
                }
            }
            Event::Alias(id) => self.alias(id, at)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        at: Position,
        anchor: usize,
        tagged: bool,
        kind: FrameKind,
    ) -> Result<(), Stop> {
        if tagged {
            self.flaw(at, "YAML tags have no meaning here; remove it".to_owned());
        }
        if self.frames.len() >= DEPTH_MAX {
            self.flaw(at, format!("nested deeper than {DEPTH_MAX} levels"));
            return Err(Stop);
        }
        self.frames.push(Frame { at, anchor, kind });
        Ok(())
    }

    fn alias(&mut self, id: usize, at: Position) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            self.flaw(
                at,
                "this alias lies inside the anchor that it repeats".to_owned(),
            );
            return Err(Stop);
        };
        let (nodes, depth) = node.measure();
        self.nodes = self.nodes.saturating_add(nodes);
        if self.frames.len().saturating_add(depth) > DEPTH_MAX {
            self.flaw(
                at,
                format!("this alias nests deeper than {DEPTH_MAX} levels"),
            );
            return Err(Stop);
        }
        self.finish(node, 0)
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, mut node: Node, anchor: usize) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX {
            self.flaw(node.at, format!("more than {NODES_MAX} values in one file"));
            return Err(Stop);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let path = self.path();
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.kind {
            FrameKind::Sequence(items) => items.push(node),
            FrameKind::Mapping { entries, key } => match key.take() {
                None => match node.value {
                    Value::Scalar { text, .. } => *key = Some((text, node.at)),
                    _ => {
                        self.flaw(node.at, "a key must be plain text".to_owned());
                        return Err(Stop);
                    }
                },
                Some((name, key_at)) => {
                    if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                        let message = format!(
                            "`{name}` is written twice, first on line {}; keep one",
                            first.key_at.line
                        );
                        self.flaws.push(Flaw {
                            path,
                            at: key_at,
                            message,
                        });
                        return Ok(());
                    }
                    // A block value starts on a later line, an absent one nowhere: the key is where people look.
                    if node.at.line != key_at.line || node.is_null() {
                        node.at = if matches!(node.value, Value::Scalar { .. }) && !node.is_null() {
                            node.at
                        } else {
                            key_at
                        };
                    }
                    entries.push(Entry {
                        key: name,
                        key_at,
                        node,
                    });
                }
            },
        }
        Ok(())
    }

    /// Where the builder is.
    fn path(&self) -> Path {
        self.frames
            .iter()
            .filter_map(|frame| match &frame.kind {
                FrameKind::Sequence(items) => Some(items.len().to_string().into_boxed_str()),
                FrameKind::Mapping { key, .. } => key.as_ref().map(|(name, _)| name.clone()),
            })
            .collect()
    }

    fn flaw(&mut self, at: Position, message: String) {
        let path = self.path();
        self.flaws.push(Flaw { path, at, message });
    }
}

fn is_string_tag(tag: &saphyr_parser::Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str"
}
