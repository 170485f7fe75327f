//! Locks as they are written down: versioned JSON that people can read and mend.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::lock::{Ban, Lock, Selector};
use crate::policy::units::Moment;
use crate::time::Timestamp;

/// The version of the form that this program reads and writes.
const VERSION: u32 = 1;

/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 256;

/// Longest of the other texts, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Locks that were taken away and are remembered, so that the audit can say who did it.
const LIFTED_MAX: usize = 256;

/// What the file of locks says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Locks, in the order in which they were made.
    pub locks: Vec<Lock>,
    /// Locks that were taken away lately, the last one last.
    pub lifted: Vec<Lifted>,
}

/// A lock that was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifted {
    /// Which.
    pub id: Box<str>,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Box<str>,
    /// Why, for people.
    pub reason: Box<str>,
}

/// Why text is not a list of locks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of this form.
    #[error("line {line}, column {column}: {what}")]
    Form {
        /// Counts from 1.
        line: usize,
        /// Counts from 1.
        column: usize,
        /// What is wrong.
        what: Box<str>,
    },
    /// Of another version.
    #[error("version {0} is not known; this program reads version 1")]
    Version(u32),
    /// One entry makes no sense.
    #[error("locks[{index}]{}: {what}", named(.id))]
    Entry {
        /// Counts from 0.
        index: usize,
        /// As written.
        id: Box<str>,
        /// What is wrong, and how to write it.
        what: Box<str>,
    },
}

fn named(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!(" ({})", super::printable(id))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    locks: Vec<WrittenLock>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lifted: Vec<WrittenLifted>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLock {
    id: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tid: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oid: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    azp: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uti: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens_before: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Box<str>>,
    at: Box<str>,
    #[serde(default)]
    by: Box<str>,
    #[serde(default)]
    reason: Box<str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLifted {
    id: Box<str>,
    at: Box<str>,
    #[serde(default)]
    by: Box<str>,
    #[serde(default)]
    reason: Box<str>,
}

impl Document {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`DocumentError`], at the first thing that is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        let written: Written = serde_json::from_slice(text).map_err(|error| {
            let said = error.to_string();
            let what = said.split(" at line ").next().unwrap_or(&said);
            DocumentError::Form {
                line: error.line(),
                column: error.column(),
                what: super::printable(what).into(),
            }
        })?;
        if written.version != VERSION {
            return Err(DocumentError::Version(written.version));
        }
        let mut ids = HashSet::new();
        let mut locks = Vec::with_capacity(written.locks.len());
        for (index, one) in written.locks.into_iter().enumerate() {
            let id = one.id.clone();
            let wrong = |what: String| DocumentError::Entry {
                index,
                id: id.clone(),
                what: what.into(),
            };
            let lock = one.read().map_err(wrong)?;
            if !ids.insert(lock.id.clone()) {
                return Err(wrong(
                    "this id was used before; give it one of its own".into(),
                ));
            }
            locks.push(lock);
        }
        let lifted = written.lifted.into_iter().filter_map(|one| {
            // For people only: what cannot be read says nothing.
            let at = one.at.parse::<Moment>().ok()?.begins();
            Some(Lifted {
                id: one.id,
                at,
                by: one.by,
                reason: one.reason,
            })
        });
        Ok(Self {
            locks,
            lifted: lifted.collect(),
        })
    }

    /// The text to write, with a line end.
    pub fn text(&self) -> String {
        let written = Written {
            version: VERSION,
            locks: self.locks.iter().map(WrittenLock::of).collect(),
            lifted: self.lifted.iter().map(WrittenLifted::of).collect(),
        };
        // Texts and numbers always encode.
        let mut text = serde_json::to_string_pretty(&written).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Whether a lock has this id, or had it lately.
    pub fn knows(&self, id: &str) -> bool {
        let ids = self.locks.iter().map(|lock| &lock.id);
        let lifted = self.lifted.iter().map(|lifted| &lifted.id);
        ids.chain(lifted).any(|known| **known == *id)
    }

    /// Takes a lock away, and remembers by whom.
    pub fn lift(&mut self, id: &str, at: Timestamp, by: &str, reason: &str) -> Option<Lock> {
        let index = self.locks.iter().position(|lock| *lock.id == *id)?;
        let lock = self.locks.remove(index);
        self.lifted.push(Lifted {
            id: lock.id.clone(),
            at,
            by: by.into(),
            reason: reason.into(),
        });
        let over = self.lifted.len().saturating_sub(LIFTED_MAX);
        self.lifted.drain(..over);
        Some(lock)
    }

    /// Leaves out locks that ended before `now`.
    pub fn drop_ended(&mut self, now: Timestamp) {
        self.locks.retain(|lock| lock.is_in_force(now));
    }
}

impl WrittenLock {
    fn of(lock: &Lock) -> Self {
        let shown = |at: Timestamp| Some(Box::from(at.to_string()));
        let mut written = Self {
            id: lock.id.clone(),
            tokens_before: match lock.ban {
                Ban::Everything => None,
                Ban::TokensBefore(cut) => shown(cut),
            },
            until: lock.until.and_then(shown),
            at: lock.at.to_string().into(),
            by: lock.by.clone(),
            reason: lock.reason.clone(),
            ..Self::default()
        };
        match &lock.selector {
            Selector::Identity { tid, oid } => {
                written.tid = Some(tid.clone());
                written.oid = Some(oid.clone());
            }
            Selector::Client(azp) => written.azp = Some(azp.clone()),
            Selector::Token(uti) => written.uti = Some(uti.clone()),
            Selector::Role(role) => written.role = Some(role.clone()),
            Selector::Everybody => written.all = Some(true),
        }
        written
    }

    fn read(self) -> Result<Lock, String> {
        let fits = |text: &str| {
            (1..=32).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !fits(&self.id) {
            return Err("an id is 1 to 32 letters, digits or hyphens".into());
        }
        if self.reason.len() > REASON_BYTES_MAX || self.by.len() > TEXT_BYTES_MAX {
            return Err(format!(
                "`reason` has at most {REASON_BYTES_MAX} bytes, `by` {TEXT_BYTES_MAX}"
            ));
        }
        let moment = |name: &str, text: &str| {
            let read = text.parse::<Moment>();
            read.map_err(|error| format!("`{name}`: {error}"))
        };
        let ban = match &self.tokens_before {
            None => Ban::Everything,
            Some(text) => Ban::TokensBefore(moment("tokens_before", text)?.begins()),
        };
        let until = self.until.as_deref().map(|text| moment("until", text));
        Ok(Lock {
            selector: self.selector()?,
            ban,
            until: until.transpose()?.map(Moment::ends),
            at: moment("at", &self.at)?.begins(),
            id: self.id,
            by: self.by,
            reason: self.reason,
        })
    }

    fn selector(&self) -> Result<Selector, String> {
        const HOW: &str =
            "name exactly one of: `tid` with `oid`, `azp`, `uti`, `role`, or `all: true`";
        let texts = [&self.tid, &self.oid, &self.azp, &self.uti, &self.role];
        for text in texts.into_iter().flatten() {
            if text.is_empty() || text.len() > TEXT_BYTES_MAX {
                return Err(format!(
                    "a name is empty or longer than {TEXT_BYTES_MAX} bytes"
                ));
            }
        }
        match (
            &self.tid, &self.oid, &self.azp, &self.uti, &self.role, self.all,
        ) {
            (Some(tid), Some(oid), None, None, None, None) => Ok(Selector::identity(tid, oid)),
            (None, None, Some(azp), None, None, None) => Ok(Selector::client(azp)),
            (None, None, None, Some(uti), None, None) => Ok(Selector::Token(uti.clone())),
            (None, None, None, None, Some(role), None) => Ok(Selector::Role(role.clone())),
            (None, None, None, None, None, Some(true)) => Ok(Selector::Everybody),
            _ => Err(HOW.into()),
        }
    }
}

impl WrittenLifted {
    fn of(lifted: &Lifted) -> Self {
        Self {
            id: lifted.id.clone(),
            at: lifted.at.to_string().into(),
            by: lifted.by.clone(),
            reason: lifted.reason.clone(),
        }
    }
}
