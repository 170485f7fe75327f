//! Permissions by chance, in the three forms that they are needed in: a role of natsentry, the permissions of a user of
//! nats-server, and the plain lists that the model reads.

use std::sync::Arc;

use natsentry::identity::{Identity, Kind};
use natsentry::policy::{Circumstances, Document, InboxRegistry, Judge, Policy};
use natsentry::time::Timestamp;
use serde_json::{Value, json};

use super::random::Random;
use super::subjects::{GROUPS, group, pattern};

/// The object id of whoever plays, for `{oid}`.
pub(crate) const OID: &str = "aaaaaaaa-0000-4000-8000-00000000beef";

/// Inbox tokens that a session of `inbox: private` makes its own: one as most clients make them, one as nats.go does for
/// asynchronous publishes.
pub(crate) const OWN_INBOXES: [&str; 2] = ["Kx7vQ2mN9pLr4tWz8sBd1f", "q7Zr2K"];

/// Where `{oid}` of the role stands for the identity.
const TEMPLATE: &str = "{oid}";

/// A grant that nothing ever asks for: what an empty list of natsentry is written as for a server.
const NOBODYS: &str = "nobody.asks.for.this.7f3a";

/// A subscribe entry: subject and queue group.
pub(crate) type Entry = (String, Option<String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbox {
    Off,
    Shared,
    Private,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Respond {
    /// -1: any number.
    pub(crate) max: i64,
    pub(crate) ttl_ms: u64,
}

/// What one user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) publish: Vec<String>,
    pub(crate) deny_publish: Vec<String>,
    pub(crate) subscribe: Vec<Entry>,
    pub(crate) deny_subscribe: Vec<Entry>,
    pub(crate) respond: Option<Respond>,
    pub(crate) inbox: Inbox,
    /// An empty list goes to the server as one, for which it means everything.
    pub(crate) empty_as_it_is: bool,
    /// Every other grant belongs to a second role of the same identity.
    pub(crate) two_roles: bool,
}

/// The same as plain lists, as a nats-server would hold them.
#[derive(Clone, Debug)]
pub(crate) struct ServerLists {
    /// None: everything.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) deny_publish: Vec<String>,
    /// None: everything.
    pub(crate) subscribe: Option<Vec<Entry>>,
    pub(crate) deny_subscribe: Vec<Entry>,
    pub(crate) respond: Option<Respond>,
}

/// The entries of a role with its templates filled in.
#[derive(Clone, Debug)]
pub(crate) struct NamedLists {
    pub(crate) publish: Vec<String>,
    pub(crate) deny_publish: Vec<String>,
    pub(crate) subscribe: Vec<Entry>,
    pub(crate) deny_subscribe: Vec<Entry>,
}

impl Rules {
    pub(crate) fn random(random: &mut Random) -> Self {
        // Now and then none at all.
        let patterns = |random: &mut Random, most: usize| -> Vec<String> {
            let count = if random.once_in(16) {
                0
            } else {
                random.between(1, most)
            };
            (0..count).map(|_| grant(random)).collect()
        };
        let entries = |random: &mut Random, subjects: Vec<String>| -> Vec<Entry> {
            let queues = random.once_in(2);
            subjects
                .into_iter()
                .map(|subject| {
                    let queue = (queues && random.once_in(2)).then(|| queue_entry(random));
                    (subject, queue)
                })
                .collect()
        };
        // Now and then nearly everything, so that deny entries decide.
        let (wide_publish, wide_subscribe) = (random.once_in(4), random.once_in(4));
        let mut publish = patterns(random, 4);
        publish.extend(wide_publish.then(|| ">".to_owned()));
        let deny_publish = if random.once_in(3) {
            Vec::new()
        } else {
            patterns(random, 3)
        };
        let subscribe = patterns(random, 4);
        let mut subscribe = entries(random, subscribe);
        subscribe.extend(wide_subscribe.then(|| (">".to_owned(), None)));
        let deny_subscribe = if random.once_in(3) {
            Vec::new()
        } else {
            patterns(random, 2)
        };
        let deny_subscribe = entries(random, deny_subscribe);
        let respond = random.once_in(4).then(|| Respond {
            max: *random.pick(&[1, 1, 2, 5, -1]),
            ttl_ms: 60_000,
        });
        let plain = subscribe.iter().all(|(_, queue)| queue.is_none());
        let rules = Self {
            publish,
            deny_publish,
            subscribe,
            deny_subscribe,
            respond,
            inbox: match random.below(8) {
                0 => Inbox::Shared,
                1 => Inbox::Private,
                _ => Inbox::Off,
            },
            empty_as_it_is: random.once_in(2),
            two_roles: plain && random.once_in(4),
        };
        if rules.is_written() {
            rules
        } else {
            Self::random(random)
        }
    }

    /// Whether natsentry takes it: a role that says nothing at all is a mistake.
    pub(crate) fn is_written(&self) -> bool {
        let lists = !self.publish.is_empty()
            || !self.subscribe.is_empty()
            || !self.deny_publish.is_empty()
            || !self.deny_subscribe.is_empty();
        lists || self.respond.is_some() || self.inbox == Inbox::Shared
    }

    /// As roles of natsentry for whoever has the app role `app_role`, by name.
    pub(crate) fn roles(&self, app_role: &str, upstream: &str) -> Vec<(String, Value)> {
        let share = |index: usize| -> Value {
            let mine = |at: usize| !self.two_roles || at % 2 == index;
            let publish = self.publish.iter().enumerate().filter(|(at, _)| mine(*at));
            let publish: Vec<&String> = publish.map(|(_, text)| text).collect();
            let subscribe = self
                .subscribe
                .iter()
                .enumerate()
                .filter(|(at, _)| mine(*at));
            let subscribe: Vec<Value> = subscribe.map(|(_, entry)| written(entry)).collect();
            let inbox = match self.inbox {
                Inbox::Off => "off",
                Inbox::Shared => "shared",
                Inbox::Private => "private",
            };
            let mut role = json!({
                "bind": [{ "app_role": app_role }], "upstream": upstream, "broad": true, "inbox": inbox,
                "publish": publish, "subscribe": subscribe,
            });
            if index == 0 {
                let denied: Vec<Value> = self.deny_subscribe.iter().map(written).collect();
                role["deny"] = json!({ "publish": self.deny_publish, "subscribe": denied });
                if let Some(respond) = self.respond {
                    role["respond"] =
                        json!({ "max": respond.max, "ttl": format!("{}ms", respond.ttl_ms) });
                }
            }
            role
        };
        let mut roles = vec![(app_role.to_owned(), share(0))];
        // A role that grants nothing and denies nothing is a mistake.
        if self.two_roles && self.publish.len().max(self.subscribe.len()) > 1 {
            roles.push((format!("{app_role}-more"), share(1)));
        }
        roles
    }

    /// What a server holds for it.
    pub(crate) fn for_server(&self) -> ServerLists {
        let subjects = |list: &[String]| list.iter().map(|text| filled(text)).collect();
        let entries = |list: &[Entry]| -> Vec<Entry> {
            let each = list.iter().flat_map(|(subject, queue)| {
                let subject = filled(subject);
                groups_of(queue.as_deref()).map(move |queue| (subject.clone(), queue))
            });
            each.collect()
        };
        let mut subscribe = entries(&self.subscribe);
        match self.inbox {
            Inbox::Off => {}
            Inbox::Shared => subscribe.push(("_INBOX.>".to_owned(), None)),
            Inbox::Private => {
                for token in OWN_INBOXES {
                    subscribe.push((format!("_INBOX.{token}"), None));
                    subscribe.push((format!("_INBOX.{token}.>"), None));
                }
                subscribe.push((format!("_INBOX_{OID}.>"), None));
            }
        }
        // With allow_responses, a server takes an empty list for none.
        let everything = self.empty_as_it_is && self.respond.is_none();
        ServerLists {
            publish: match &self.publish[..] {
                [] if everything => None,
                [] => Some(vec![NOBODYS.to_owned()]),
                list => Some(subjects(list)),
            },
            deny_publish: subjects(&self.deny_publish),
            subscribe: match subscribe.is_empty() {
                true if self.empty_as_it_is => None,
                true => Some(vec![(NOBODYS.to_owned(), None)]),
                false => Some(subscribe),
            },
            deny_subscribe: entries(&self.deny_subscribe),
            respond: self.respond,
        }
    }

    /// Its entries, with what `inbox: shared` stands for.
    pub(crate) fn named(&self) -> NamedLists {
        let subjects = |list: &[String]| list.iter().map(|text| filled(text)).collect();
        let entries = |list: &[Entry]| -> Vec<Entry> {
            list.iter()
                .map(|(subject, queue)| (filled(subject), queue.clone()))
                .collect()
        };
        let mut subscribe = entries(&self.subscribe);
        if self.inbox == Inbox::Shared {
            subscribe.push(("_INBOX.>".to_owned(), None));
        }
        NamedLists {
            publish: subjects(&self.publish),
            deny_publish: subjects(&self.deny_publish),
            subscribe,
            deny_subscribe: entries(&self.deny_subscribe),
        }
    }

    /// A judge for the role, in this process.
    pub(crate) fn judge(&self) -> Judge {
        let roles: serde_json::Map<String, Value> = self.roles("R", "u").into_iter().collect();
        let document: Document =
            serde_json::from_value(json!({ "roles": roles })).expect("a document");
        let policy = Policy::compile(&document).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let here = Circumstances {
            source: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            now: START,
            requested_role: None,
        };
        let assignment = policy.assign(&identity(), &here).expect("an assignment");
        Judge::new(assignment.permissions, Arc::<InboxRegistry>::default(), 1)
    }

    /// Everything that is a little simpler, the bolder cuts first.
    pub(crate) fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut copy = self.clone();
            change(&mut copy);
            if copy != *self && copy.is_written() {
                all.push(copy);
            }
        };
        with(&|rules| rules.respond = None);
        with(&|rules| rules.inbox = Inbox::Off);
        with(&|rules| rules.two_roles = false);
        with(&|rules| rules.empty_as_it_is = false);
        for index in 0..8 {
            with(&|rules| drop_at(&mut rules.publish, index));
            with(&|rules| drop_at(&mut rules.deny_publish, index));
            with(&|rules| drop_at(&mut rules.subscribe, index));
            with(&|rules| drop_at(&mut rules.deny_subscribe, index));
            with(&|rules| {
                if let Some(entry) = rules.subscribe.get_mut(index) {
                    entry.1 = None;
                }
            });
        }
        all
    }
}

impl ServerLists {
    /// In nats-server's own words, which are JSON here.
    pub(crate) fn permissions(&self) -> Value {
        let entries = |list: &[Entry]| -> Vec<String> {
            let written = list.iter().map(|(subject, queue)| match queue {
                None => subject.clone(),
                Some(queue) => format!("{subject} {queue}"),
            });
            written.collect()
        };
        let subscribe = self.subscribe.as_deref().map(entries);
        let mut permissions = json!({
            "publish": { "allow": self.publish.clone().unwrap_or_default(), "deny": self.deny_publish },
            "subscribe": { "allow": subscribe.unwrap_or_default(), "deny": entries(&self.deny_subscribe) },
        });
        if let Some(respond) = self.respond {
            permissions["allow_responses"] =
                json!({ "max": respond.max, "expires": format!("{}ms", respond.ttl_ms) });
        }
        permissions
    }
}

/// When every session of this test began, where time is an input.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_451_820);

fn grant(random: &mut Random) -> String {
    if random.once_in(24) {
        format!("{TEMPLATE}.{}", pattern(random))
    } else {
        pattern(random)
    }
}

fn queue_entry(random: &mut Random) -> String {
    if random.once_in(8) {
        (*random.pick(&["v*", "grp.a*"])).to_owned()
    } else {
        group(random)
    }
}

/// The names that the group of an entry stands for: itself but where a wildcard stands inside a token, which servers
/// do not know.
pub(crate) fn groups_of(queue: Option<&str>) -> impl Iterator<Item = Option<String>> + use<> {
    let names: Vec<Option<String>> = match queue {
        None => vec![None],
        Some("v*") => ["v1", "v2", "v*"].map(|name| Some(name.to_owned())).into(),
        Some("grp.a*") => ["grp.a", "grp.a*"].map(|name| Some(name.to_owned())).into(),
        Some(name) => vec![Some(name.to_owned())],
    };
    debug_assert!(queue.is_none_or(|queue| GROUPS.contains(&queue) || queue.ends_with("*")));
    names.into_iter()
}

pub(crate) fn filled(text: &str) -> String {
    text.replace(TEMPLATE, OID)
}

fn written((subject, queue): &Entry) -> Value {
    match queue {
        None => json!(subject),
        Some(queue) => json!({ "subject": subject, "queue": queue }),
    }
}

fn drop_at<T>(list: &mut Vec<T>, index: usize) {
    if index < list.len() {
        list.remove(index);
    }
}

fn identity() -> Identity {
    Identity {
        roles: vec!["R".into()],
        ..Identity::plain(
            Kind::App,
            ("11111111-2222-3333-4444-555555555555", OID),
            (START, START),
        )
    }
}
