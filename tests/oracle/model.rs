//! What nats-server decides, written anew from its source (`server/client.go`: `setPermissions`, `canSubscribeInternal`,
//! `queueMatches`, `pubAllowedFullCheck`, `responseAllowed`, `deliverMsg`; `server/sublist.go`: `match`,
//! `isSubsetMatchTokenized`), entry by entry and without a trie. It is held against real servers in the same run
//! ([`super::confirm`]); it knows nothing of natsentry.

use std::collections::HashMap;
use std::time::Duration;

use natsentry::demo::servers::Version;
use natsentry::time::Timestamp;

use super::rules::{Entry, ServerLists};
use super::subjects::{has_wildcard, tokens};

/// What changed between the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ways {
    /// `$NRG.` is refused to everybody (from 2.11).
    pub(crate) guards_nrg: bool,
    /// `$GR.` is refused to everybody, as a subject and as a reply (2.15.1, not yet 2.14.5).
    pub(crate) guards_gr: bool,
    /// Looking whether a reply may be published to anyway uses up an answer (from 2.11).
    pub(crate) repeated_reply_uses_up: bool,
    /// A queue entry of the deny list that does not fit takes back what a plain entry said (before 2.11.16).
    pub(crate) queue_deny_overrides: bool,
}

impl Ways {
    pub(crate) fn of(version: Version) -> Self {
        let new = version >= Version::V2_12_8;
        Self {
            guards_nrg: new,
            guards_gr: version >= Version::V2_15_1,
            repeated_reply_uses_up: new,
            queue_deny_overrides: !new,
        }
    }
}

/// What becomes of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Passed,
    /// `Permissions Violation for Publish to`.
    Refused,
    /// `Permissions Violation for Publish with Reply of`.
    ReplyRefused,
}

/// One connection as a server sees it.
#[derive(Debug)]
pub(crate) struct Model {
    ways: Ways,
    lists: ServerLists,
    replies: HashMap<Vec<u8>, Open>,
}

/// A request that may be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) at: Timestamp,
    pub(crate) answers: i64,
}

impl Model {
    pub(crate) fn new(ways: Ways, lists: ServerLists) -> Self {
        Self {
            ways,
            lists,
            replies: HashMap::new(),
        }
    }

    /// A PUB (`processInboundClientMsg`).
    pub(crate) fn publish(&mut self, subject: &[u8], reply: Option<&[u8]>, now: Timestamp) -> Fate {
        if subject.starts_with(b"_GR_.") || (self.ways.guards_gr && subject.starts_with(b"$GR.")) {
            return Fate::Refused;
        }
        if !self.allows(subject) && !self.answers(subject, now) {
            return Fate::Refused;
        }
        if self.ways.guards_nrg && subject.starts_with(b"$NRG.") {
            return Fate::Refused;
        }
        match reply {
            Some(reply) if self.is_reserved_reply(reply) => Fate::ReplyRefused,
            _ => Fate::Passed,
        }
    }

    /// `isReservedReply`.
    fn is_reserved_reply(&self, reply: &[u8]) -> bool {
        let longer = |prefix: &[u8]| reply.len() > prefix.len() && reply.starts_with(prefix);
        let old = self.ways.guards_gr && longer(b"$GR.");
        old || reply.starts_with(b"_R_.") || longer(b"_GR_.") || longer(b"$JS.ACK.")
    }

    /// The lists alone (`pubAllowedFullCheck`).
    pub(crate) fn allows(&self, subject: &[u8]) -> bool {
        let any = |list: &[String]| list.iter().any(|entry| matches(entry.as_bytes(), subject));
        self.lists.publish.as_deref().is_none_or(any) && !any(&self.lists.deny_publish)
    }

    /// `responseAllowed`.
    fn answers(&mut self, subject: &[u8], now: Timestamp) -> bool {
        let Some(respond) = self.lists.respond else {
            return false;
        };
        let Some(open) = self.replies.get_mut(subject) else {
            return false;
        };
        open.answers += 1;
        let spent = respond.max > 0 && open.answers > respond.max;
        let late = now.since(open.at) > Duration::from_millis(respond.ttl_ms);
        if spent || late {
            self.replies.remove(subject);
        }
        !spent && !late
    }

    /// A message with a reply was delivered to the client (`deliverMsg`).
    pub(crate) fn delivered(&mut self, reply: &[u8], now: Timestamp) {
        if self.lists.respond.is_none() {
            return;
        }
        if self.ways.repeated_reply_uses_up && (self.allows(reply) || self.answers(reply, now)) {
            return;
        }
        self.replies.insert(
            reply.to_vec(),
            Open {
                at: now,
                answers: 0,
            },
        );
    }

    /// A SUB (`canSubscribeInternal`).
    pub(crate) fn subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        if queue == Some(b"_sys_") {
            return false;
        }
        let plain = |list: &[Entry]| {
            let mut entries = list.iter().filter(|(_, group)| group.is_none());
            entries.any(|(entry, _)| matches(entry.as_bytes(), subject))
        };
        // Of the queue entries of this subject, whether there is any and whether one fits.
        let grouped = |list: &[Entry], queue: &[u8]| {
            let here = list
                .iter()
                .filter(|(entry, _)| matches(entry.as_bytes(), subject));
            let names: Vec<&str> = here.filter_map(|(_, group)| group.as_deref()).collect();
            let fits = names
                .iter()
                .any(|name| group_matches(queue, name.as_bytes()));
            (!names.is_empty()).then_some(fits)
        };
        let allowed = match (&self.lists.subscribe, queue) {
            (None, _) => true,
            (Some(list), None) => plain(list),
            (Some(list), Some(queue)) => grouped(list, queue).unwrap_or_else(|| plain(list)),
        };
        if !allowed {
            return false;
        }
        let denied = plain(&self.lists.deny_subscribe);
        match queue.and_then(|queue| grouped(&self.lists.deny_subscribe, queue)) {
            Some(fits) if self.ways.queue_deny_overrides => !fits,
            Some(fits) => !denied && !fits,
            None => !denied,
        }
    }

    /// Whether a message may be delivered on a plain subscription, where deny entries are looked at (`checkDenySub`).
    pub(crate) fn delivers(&self, subject: &[u8]) -> bool {
        let mut plain = self
            .lists
            .deny_subscribe
            .iter()
            .filter(|(_, group)| group.is_none());
        !plain.any(|(entry, _)| matches(entry.as_bytes(), subject))
    }

    /// Whether a subscription makes a server that knows only subsets (before 2.11.16) look at deny entries at all
    /// (`canSubscribe` of 2.9).
    pub(crate) fn arms_old_filter(&self, subject: &[u8]) -> bool {
        // The entry is taken with its queue group, a space between them.
        let within = |(entry, group): &Entry| {
            let whole = group
                .as_ref()
                .map_or_else(|| entry.clone(), |group| format!("{entry} {group}"));
            is_subset(whole.as_bytes(), subject)
        };
        has_wildcard(subject) && self.lists.deny_subscribe.iter().any(within)
    }
}

/// Whether the pattern matches the tokens of `subject`, whatever they are, as literals (`Sublist.match`). A subject with
/// an empty token matches nothing.
pub(crate) fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut wanted = tokens(pattern);
    let mut given = tokens(subject);
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(_), None) | (None, Some(_)) | (_, Some(b"")) => return false,
            (Some(b">"), Some(_)) => return !given.any(<[u8]>::is_empty),
            (Some(wanted), Some(token)) if wanted == b"*" || wanted == token => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// `queueMatches` for one entry.
fn group_matches(queue: &[u8], entry: &[u8]) -> bool {
    queue == entry || (has_wildcard(entry) && is_subset(queue, entry))
}

/// `isSubsetMatchTokenized`.
pub(crate) fn is_subset(subject: &[u8], test: &[u8]) -> bool {
    let mut given = tokens(subject);
    for wanted in tokens(test) {
        let Some(token) = given.next() else {
            return false;
        };
        if wanted.is_empty() {
            return false;
        }
        if wanted == b">" {
            return true;
        }
        if token.is_empty() || token == b">" {
            return false;
        }
        if token == b"*" {
            if wanted != b"*" {
                return false;
            }
        } else if wanted[0] != b'*' && wanted != token {
            return false;
        }
    }
    given.next().is_none()
}
