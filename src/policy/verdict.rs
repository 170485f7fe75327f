//! What a decision is: a `Permit` that only the policy can make, or a `Denial` that says which rule.

use std::sync::Arc;

/// Leave for one publish. Only [`super::Judge`] makes one; the way upstream accepts nothing else, and encodes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit<'a> {
    pub(super) subject: &'a [u8],
    pub(super) reply: Option<&'a [u8]>,
}

impl<'a> Permit<'a> {
    /// The judged subject.
    pub const fn subject(&self) -> &'a [u8] {
        self.subject
    }

    /// The judged reply subject.
    pub const fn reply(&self) -> Option<&'a [u8]> {
        self.reply
    }
}

/// Leave for one subscription. Only [`super::Judge`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribePermit<'a> {
    pub(super) subject: &'a [u8],
    pub(super) queue: Option<&'a [u8]>,
    pub(super) filtered: bool,
}

impl<'a> SubscribePermit<'a> {
    /// The judged subject.
    pub const fn subject(&self) -> &'a [u8] {
        self.subject
    }

    /// The judged queue group.
    pub const fn queue(&self) -> Option<&'a [u8]> {
        self.queue
    }

    /// Whether a deny entry overlaps this subscription, so that every delivery on it must pass
    /// [`super::Judge::delivers`], and UNSUB max must be counted here instead of upstream.
    pub const fn is_filtered(&self) -> bool {
        self.filtered
    }
}

/// Why an operation is refused. A denial is an answer, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What kind of refusal it is.
    pub reason: DenialReason,
    /// The line of the policy that refused it, as `roles.<role>.deny.publish[0]`; none where nothing granted it.
    pub rule: Option<Arc<str>>,
}

/// The kinds of refusal; a closed set, since they are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenialReason {
    /// No role grants it.
    NotGranted,
    /// A deny entry of some role matches.
    Denied,
    /// The subject belongs to the server's inside (`_GR_.`, `$GR.`, `$NRG.`, `$MQTT.`, `$LDS.`).
    ReservedSubject,
    /// The reply starts with a prefix that nats-server reserves (`_R_.`, `_GR_.`, `$GR.`, `$JS.ACK.`).
    ReservedReply,
    /// `inbox: private`: the reply is neither below an inbox of this session nor a subject it may publish to.
    ReplyNotOwn,
    /// `inbox: private`: another session holds this inbox token.
    InboxTaken,
    /// A queue subscription overlaps a deny entry.
    QueueOverlapsDeny,
    /// The queue group `_sys_`, which nats-server refuses to everybody.
    SystemQueue,
    /// A header names a subject (`Nats-Trace-Dest`, `Nats-Schedule-Target`, `Nats-Schedule-Source`) that is not granted.
    HeaderSubject,
    /// `inbox: private`: a request to JetStream names a `deliver_subject` that is neither below an inbox of this identity nor a
    /// subject it may publish to, or its body cannot be read.
    DeliverSubject,
    /// The configuration of a stream, in a request to JetStream, names a subject, another stream or a destination that is not
    /// granted, or it cannot be read.
    StreamConfig,
}

impl DenialReason {
    /// Metric label and audit code.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotGranted => "not_granted",
            Self::Denied => "denied",
            Self::ReservedSubject => "reserved_subject",
            Self::ReservedReply => "reserved_reply",
            Self::ReplyNotOwn => "reply_not_own",
            Self::InboxTaken => "inbox_taken",
            Self::QueueOverlapsDeny => "queue_overlaps_deny",
            Self::SystemQueue => "system_queue",
            Self::HeaderSubject => "header_subject",
            Self::DeliverSubject => "deliver_subject",
            Self::StreamConfig => "stream_config",
        }
    }

    /// Every reason, so that metrics can make all label values beforehand.
    pub const ALL: [Self; 11] = [
        Self::NotGranted,
        Self::Denied,
        Self::ReservedSubject,
        Self::ReservedReply,
        Self::ReplyNotOwn,
        Self::InboxTaken,
        Self::QueueOverlapsDeny,
        Self::SystemQueue,
        Self::HeaderSubject,
        Self::DeliverSubject,
        Self::StreamConfig,
    ];
}
