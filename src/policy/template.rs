//! Templates in subjects: `{oid}`, `{tid}`, `{azp}`, `{sub}` and claims that the operator lists.
//!
//! Owns: what a template may name, and what value may take its place. Must never: put more than one NATS token, or a
//! byte that NATS or JetStream gives a meaning, into a subject.

use crate::identity::Identity;

/// The longest value that may take a template's place, in bytes.
const LONGEST_VALUE: usize = 64;

/// A text with templates in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    Text(Box<str>),
    Claim(Box<str>),
}

impl Template {
    /// Takes a text apart. `claims` are the names that may be used besides the four.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write.
    pub(super) fn parse(text: &str, claims: &[String]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut left = text;
        while let Some((before, after)) = left.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!(
                    "`{{` in {text:?} has no `}}`; a template is written {{oid}}"
                ));
            };
            if before.contains('}') {
                return Err(stray(text));
            }
            if !is_known(name, claims) {
                return Err(format!(
                    "no template is called {{{name}}}; there are {{oid}}, {{tid}}, {{azp}}, {{sub}} and the claims listed in template_claims"
                ));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(Piece::Claim(name.into()));
            left = after;
        }
        if left.contains('}') {
            return Err(stray(text));
        }
        if !left.is_empty() {
            pieces.push(Piece::Text(left.into()));
        }
        Ok(Self(pieces))
    }

    /// A text in which nothing is a template.
    pub(super) fn fixed(text: &str) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    /// Whether the text is the same for every identity.
    pub(super) fn is_fixed(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// This text with another before and after it.
    pub(super) fn within(&self, before: &str, after: &str) -> Self {
        let mut pieces = vec![Piece::Text(before.into())];
        pieces.extend(self.0.iter().cloned());
        pieces.push(Piece::Text(after.into()));
        Self(pieces)
    }

    /// This text followed by another.
    pub(super) fn followed_by(&self, other: &Self) -> Self {
        Self([self.0.as_slice(), other.0.as_slice()].concat())
    }

    /// The text for one identity.
    ///
    /// # Errors
    /// The name of the template that has no usable value.
    pub(super) fn fill(&self, identity: &Identity) -> Result<String, &str> {
        self.fill_with(|name| value_of(identity, name))
    }

    /// The name of a template that has no usable value for an identity.
    pub(super) fn lacks(&self, identity: &Identity) -> Option<&str> {
        self.0.iter().find_map(|piece| match piece {
            Piece::Claim(name) if value_of(identity, name).is_none() => Some(&**name),
            Piece::Claim(_) | Piece::Text(_) => None,
        })
    }

    /// The tokens of the text. What takes a template's place is a part of one.
    pub(super) fn tokens(&self) -> Vec<Self> {
        let mut tokens = vec![Vec::new()];
        for piece in &self.0 {
            let Piece::Text(text) = piece else {
                if let Some(token) = tokens.last_mut() {
                    token.push(piece.clone());
                }
                continue;
            };
            for (index, part) in text.split('.').enumerate() {
                if index > 0 {
                    tokens.push(Vec::new());
                }
                if let Some(token) = tokens.last_mut()
                    && !part.is_empty()
                {
                    token.push(Piece::Text(part.into()));
                }
            }
        }
        tokens.into_iter().map(Self).collect()
    }

    /// The text with the same plain token in every place, to check the rest of it.
    pub(super) fn sample(&self) -> String {
        self.fill_with(|_| Some("x")).unwrap_or_default()
    }

    fn fill_with<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, &str> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Claim(name) => text.push_str(value(name).ok_or(&**name)?),
            }
        }
        Ok(text)
    }
}

/// The value that an identity has for a template; none where it has none that is one safe token.
pub(super) fn value_of<'a>(identity: &'a Identity, name: &str) -> Option<&'a str> {
    let value = match name {
        "oid" => Some(&*identity.oid),
        "tid" => Some(&*identity.tid),
        "azp" => identity.azp.as_deref(),
        "sub" => identity.sub.as_deref(),
        other => identity.template_claims.get(other).map(|value| &**value),
    };
    value.filter(|value| is_token(value))
}

/// Whether a value is one token of letters, figures, `_` and `-`, at most 64.
fn is_token(value: &str) -> bool {
    (1..=LONGEST_VALUE).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn is_known(name: &str, claims: &[String]) -> bool {
    matches!(name, "oid" | "tid" | "azp" | "sub") || claims.iter().any(|claim| claim == name)
}

fn stray(text: &str) -> String {
    format!("`}}` in {text:?} has no `{{` before it; a template is written {{oid}}")
}
