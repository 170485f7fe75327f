//! The deliberate differences from nats-server, each by its name, with a predicate as narrow as it can be, and counted. What
//! is not here is a mistake of natsentry, or of this test.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natsentry::time::Timestamp;

use super::model::{Fate, Model, Open};
use super::rules::{Inbox, NamedLists, OID, OWN_INBOXES, Rules};
use super::subjects::{collide, contained_in, has_wildcard};

macro_rules! differences {
    ($($name:ident: $sentence:literal,)*) => {
        /// Every deliberate difference that can be seen on the wire of one session.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Difference { $(#[doc = $sentence] $name,)* }

        impl Difference {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

differences! {
    WiderThanGrant: "SUB of a wildcard that no grant contains whole (README 1)",
    EmptyList: "an empty list grants nothing (README 2)",
    QueueOverlapsDeny: "queue SUB that overlaps a deny entry (README 3)",
    KeptBackCountsUpstream: "a request that only a kept back delivery met gets no 503 (README 3)",
    KeptBack503: "a 503 to a reply that a deny entry names is kept back like any other delivery (README 3)",
    LeakBefore2_11_16: "a delivery that older servers let past a deny entry (README 3); not played",
    LoneCarriageReturn: "CR without LF ends the session (README 4)",
    OtherIdentity: "second CONNECT with another identity ends the session (README 5)",
    UserInfo: "$SYS.REQ.USER.INFO is answered for the Entra identity (README 6)",
    HeaderSubject: "a header that names a subject is judged like a publish or a subscribe (README 6)",
    ReplyNotOwn: "inbox: private keeps replies and queue groups out of inboxes (README 7)",
    DeniedRequest503: "a denied request is answered 503 (README 8)",
    AnswerBeforeRequest: "an answer counts once its request was delivered to the client, not before (README 9); not played",
    LimitUnderWay: "UNSUB max of a filtered subscription ends it at that number although more was under way (README 9); not played",
    SidUnderWay: "a SUB on a sid whose last counted messages are still under way is taken for a repetition (README 9); not played",
    WildcardPublish: "PUB with wildcard tokens has to lie inside a grant and clear of deny entries (README 10)",
    ReservedSubject: "a subject or reply below a prefix of the server's inside (README 11)",
    RepeatedReply: "allow_responses counts per delivery, as before 2.11 (README 12); not played",
    PedanticOnce: "`Invalid Publish Subject` is said once, also when the payload comes in another read (README 13)",
    SizesAnew: "sizes reach subscribers without leading zeros (README 13)",
    LocalAnswersOvertake: "+OK and -ERR may come before deliveries of earlier operations, never past a PONG (README 14)",
}

static SEEN: [AtomicU64; Difference::ALL.len()] =
    [const { AtomicU64::new(0) }; Difference::ALL.len()];

impl Difference {
    pub(crate) fn seen(self) {
        SEEN[self as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(self) -> u64 {
        SEEN[self as usize].load(Ordering::Relaxed)
    }
}

/// One line for each difference; those that never occurred say so.
pub(crate) fn table() -> String {
    let mut text = String::new();
    for difference in Difference::ALL {
        let count = match difference.count() {
            0 => "unexercised".to_owned(),
            count => count.to_string(),
        };
        writeln!(
            text,
            "  {count:>12}  {difference:?}: {}",
            difference.sentence()
        )
        .expect("written");
    }
    text
}

/// What natsentry should decide: the model's answer where no deliberate difference applies, and that difference's name
/// where one makes it another.
#[derive(Debug)]
pub(crate) struct Specified {
    rules: Rules,
    lists: NamedLists,
    open: HashMap<Vec<u8>, Open>,
    /// Every reply subject that was ever delivered.
    requested: HashSet<Vec<u8>>,
    /// The inboxes that the session listens in: those that no deny entry keeps it out of.
    inboxes: Vec<Vec<u8>>,
}

/// A decision, and why it is another than the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decided<T> {
    pub(crate) verdict: T,
    pub(crate) because: Option<Difference>,
}

impl Specified {
    /// For a session that began with a subscription in each inbox of its own, as far as `model` permits.
    pub(crate) fn new(rules: &Rules, model: &Model) -> Self {
        let below = OWN_INBOXES
            .iter()
            .map(|token| format!("_INBOX.{token}").into_bytes());
        let inboxes = below.filter(|inbox| model.subscribe(&[inbox, &b".>"[..]].concat(), None));
        Self {
            rules: rules.clone(),
            lists: rules.named(),
            open: HashMap::new(),
            requested: HashSet::new(),
            inboxes: inboxes.collect(),
        }
    }

    /// Whether a subject lies in an inbox of the session.
    fn is_own(&self, reply: &[u8]) -> bool {
        let mut rests = self
            .inboxes
            .iter()
            .filter_map(|inbox| reply.strip_prefix(&inbox[..]));
        rests.any(|rest| rest.is_empty() || rest.starts_with(b".")) || is_below_prefix(reply)
    }

    /// A PUB. `server` is what the model said of the same.
    pub(crate) fn publish(
        &mut self,
        model: &Model,
        server: Fate,
        subject: &[u8],
        reply: Option<&[u8]>,
        now: Timestamp,
    ) -> Decided<Fate> {
        let mut because = None;
        let mut verdict = Fate::Passed;
        if let Err(difference) = self.grants(model, subject)
            && (is_inner(subject) || !self.answers(subject, now))
        {
            (verdict, because) = (Fate::Refused, difference);
        } else if let Some(reply) = reply {
            if is_inner_reply(reply) {
                (verdict, because) = (Fate::ReplyRefused, Some(Difference::ReservedSubject));
            } else if self.rules.inbox == Inbox::Private
                && !self.is_own(reply)
                && self.grants(model, reply).is_err()
            {
                (verdict, because) = (Fate::ReplyRefused, Some(Difference::ReplyNotOwn));
            }
        }
        if because.is_none() && self.requested.contains(subject) {
            because = Some(Difference::RepeatedReply);
        }
        Decided {
            verdict,
            because: because.filter(|_| verdict != server),
        }
    }

    /// Whether the grants alone permit a publish; if not, which difference may be the reason.
    pub(crate) fn grants(&self, model: &Model, subject: &[u8]) -> Result<(), Option<Difference>> {
        if is_inner(subject) {
            return Err(Some(Difference::ReservedSubject));
        }
        if self.lists.publish.is_empty() {
            return Err(Some(Difference::EmptyList));
        }
        if has_wildcard(subject) {
            let contained = self
                .lists
                .publish
                .iter()
                .any(|outer| contained_in(subject, outer.as_bytes()));
            let touched = self
                .lists
                .deny_publish
                .iter()
                .any(|deny| collide(deny.as_bytes(), subject));
            if !contained || touched {
                return Err(Some(Difference::WildcardPublish));
            }
        }
        if model.allows(subject) {
            Ok(())
        } else {
            Err(None)
        }
    }

    fn answers(&mut self, subject: &[u8], now: Timestamp) -> bool {
        let Some(respond) = self.rules.respond else {
            return false;
        };
        let Some(open) = self.open.get_mut(subject) else {
            return false;
        };
        open.answers += 1;
        let spent = respond.max > 0 && open.answers > respond.max;
        let late = now.since(open.at) > Duration::from_millis(respond.ttl_ms);
        if spent || late {
            self.open.remove(subject);
        }
        !spent && !late
    }

    /// A message with a reply was delivered to the client.
    pub(crate) fn delivered(&mut self, model: &Model, reply: &[u8], now: Timestamp) {
        if self.rules.respond.is_some() && self.grants(model, reply).is_err() {
            self.requested.insert(reply.to_vec());
            self.open.insert(
                reply.to_vec(),
                Open {
                    at: now,
                    answers: 0,
                },
            );
        }
    }

    /// A SUB.
    pub(crate) fn subscribe(
        &self,
        server: bool,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Decided<bool> {
        let because = if server {
            self.narrows(subject, queue)
        } else {
            None
        };
        Decided {
            verdict: server && because.is_none(),
            because,
        }
    }

    /// The difference by which natsentry refuses a SUB that the server admits.
    fn narrows(&self, subject: &[u8], queue: Option<&[u8]>) -> Option<Difference> {
        if let Some(queue) = queue {
            let mut denied = self.lists.deny_subscribe.iter();
            if denied.any(|(deny, group)| {
                collide(deny.as_bytes(), subject)
                    && group.as_deref().is_none_or(|name| fits(queue, name))
            }) {
                return Some(Difference::QueueOverlapsDeny);
            }
        }
        if self.rules.inbox == Inbox::Private && is_below_inbox(subject) {
            // Its own inboxes are granted to plain subscriptions by themselves; to queue groups only by an entry.
            let granted = self.is_contained(subject, queue);
            return (queue.is_some() && !granted).then_some(Difference::ReplyNotOwn);
        }
        if self.lists.subscribe.is_empty() {
            return Some(Difference::EmptyList);
        }
        (!self.is_contained(subject, queue)).then_some(Difference::WiderThanGrant)
    }

    fn is_contained(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let narrowed = queue.is_some()
            && self.lists.subscribe.iter().any(|(outer, group)| {
                group.is_some() && super::model::matches(outer.as_bytes(), subject)
            });
        self.lists.subscribe.iter().any(|(outer, group)| {
            let group_fits = match (queue, group) {
                (Some(queue), Some(name)) if narrowed => fits(queue, name),
                (Some(_), None) if !narrowed => true,
                (None, None) => true,
                _ => false,
            };
            group_fits && contained_in(subject, outer.as_bytes())
        })
    }
}

/// Prefixes of replies that natsentry keeps for the server's inside.
fn is_inner_reply(reply: &[u8]) -> bool {
    ["_R_.", "_GR_.", "$GR.", "$JS.ACK."]
        .iter()
        .any(|prefix| reply.starts_with(prefix.as_bytes()))
}

/// Prefixes that natsentry keeps for the server's inside.
fn is_inner(subject: &[u8]) -> bool {
    ["_GR_.", "$GR.", "$NRG.", "$MQTT.", "$LDS."]
        .iter()
        .any(|prefix| subject.starts_with(prefix.as_bytes()))
}

fn is_below_prefix(reply: &[u8]) -> bool {
    let rest = reply.strip_prefix(format!("_INBOX_{OID}.").as_bytes());
    rest.is_some_and(|rest| !rest.is_empty())
}

/// Below an inbox that the session may make its own.
fn is_below_inbox(subject: &[u8]) -> bool {
    let below = |token: &&str| {
        let rest = subject.strip_prefix(format!("_INBOX.{token}").as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    };
    OWN_INBOXES.iter().any(below) || is_below_prefix(subject)
}

/// A group under the name in an entry: equal, inside it as a pattern, or `v*`, which stands for any end of a token.
fn fits(queue: &[u8], name: &str) -> bool {
    super::rules::groups_of(Some(name)).flatten().any(|name| {
        queue == name.as_bytes()
            || (has_wildcard(name.as_bytes()) && super::model::is_subset(queue, name.as_bytes()))
    })
}
