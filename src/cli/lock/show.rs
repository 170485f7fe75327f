//! Locks for people and for scripts.

use serde::Serialize;

use super::super::output::Table;
use super::confirm::Confirmed;
use crate::locks::{Ban, Lock, Selector, printable};

/// One lock, as scripts get it.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    id: &'a str,
    selects: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_before: Option<String>,
    /// None: until it is taken away.
    until: Option<String>,
    at: String,
    by: &'a str,
    reason: &'a str,
}

impl<'a> Shown<'a> {
    fn of(lock: &'a Lock) -> Self {
        let mut shown = Self {
            id: &lock.id,
            selects: lock.selector.label(),
            tid: None,
            oid: None,
            azp: None,
            uti: None,
            role: None,
            tokens_before: match lock.ban {
                Ban::Everything => None,
                Ban::TokensBefore(cut) => Some(cut.to_string()),
            },
            until: lock.until.map(|until| until.to_string()),
            at: lock.at.to_string(),
            by: &lock.by,
            reason: &lock.reason,
        };
        match &lock.selector {
            Selector::Identity { tid, oid } => {
                shown.tid = Some(tid);
                shown.oid = Some(oid);
            }
            Selector::Client(azp) => shown.azp = Some(azp),
            Selector::Token(uti) => shown.uti = Some(uti),
            Selector::Role(role) => shown.role = Some(role),
            Selector::Everybody => {}
        }
        shown
    }
}

/// `lock list`.
#[derive(Serialize)]
pub(super) struct List<'a> {
    locks: Vec<Shown<'a>>,
}

impl<'a> List<'a> {
    pub(super) fn of(locks: &'a [Lock]) -> Self {
        Self {
            locks: locks.iter().map(Shown::of).collect(),
        }
    }
}

/// What a command did.
#[derive(Serialize)]
pub(super) struct Done<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locked: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unlocked: Vec<Shown<'a>>,
    /// Whether a running process says that it is in force; none: it was not asked, or did not answer.
    in_force: Option<bool>,
}

impl<'a> Done<'a> {
    pub(super) fn locked(lock: &'a Lock, confirmed: &Confirmed) -> Self {
        Self {
            locked: vec![Shown::of(lock)],
            unlocked: Vec::new(),
            in_force: confirmed.answer(),
        }
    }

    pub(super) fn unlocked(locks: &'a [Lock], confirmed: &Confirmed) -> Self {
        Self {
            locked: Vec::new(),
            unlocked: locks.iter().map(Shown::of).collect(),
            in_force: confirmed.answer(),
        }
    }
}

fn refused(lock: &Lock) -> String {
    match lock.ban {
        Ban::Everything => "everything".to_owned(),
        Ban::TokensBefore(cut) => format!("tokens before {cut}"),
    }
}

fn end(lock: &Lock) -> String {
    lock.until
        .map_or_else(|| "unlocked".to_owned(), |until| until.to_string())
}

/// One sentence.
pub(super) fn in_words(lock: &Lock) -> String {
    let tokens = match lock.ban {
        Ban::Everything => String::new(),
        Ban::TokensBefore(_) => format!(", {}", refused(lock)),
    };
    format!("{}{tokens}, until {} ({lock})", lock.selector, end(lock))
}

/// For people.
pub(super) fn table(locks: &[Lock]) -> String {
    if locks.is_empty() {
        return "no locks".to_owned();
    }
    let mut table = Table::default();
    table.row(["ID", "WHOM", "REFUSES", "UNTIL", "MADE", "BY", "REASON"]);
    for lock in locks {
        table.row([
            &printable(&lock.id),
            &lock.selector.to_string(),
            &refused(lock),
            &end(lock),
            &lock.at.to_string(),
            &printable(&lock.by),
            &printable(&lock.reason),
        ]);
    }
    table.show()
}
