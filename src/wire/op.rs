//! What a control line says, as values that borrow from it.

/// A PUB or HPUB line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Subject, any bytes but SP, TAB, CR and LF.
    pub subject: &'a [u8],
    /// Reply subject.
    pub reply: Option<&'a [u8]>,
    /// Length of the header block in bytes: `Some` for HPUB, also when 0.
    pub header_len: Option<u32>,
    /// Length of headers and payload together, in bytes, at most 999,999,999.
    pub size: u32,
}

/// An operation of a client (nats-server `parser.go:parse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// CONNECT with its JSON text.
    Connect(&'a [u8]),
    /// PUB or HPUB; the payload follows.
    Publish(Publish<'a>),
    /// SUB.
    Subscribe {
        /// Subject.
        subject: &'a [u8],
        /// Queue group.
        queue: Option<&'a [u8]>,
        /// Subscription id, any bytes.
        sid: &'a [u8],
    },
    /// UNSUB.
    Unsubscribe {
        /// Subscription id.
        sid: &'a [u8],
        /// Messages after which to unsubscribe; none when absent or useless (0, not a number, ten digits or more),
        /// which the server takes as "now".
        max: Option<u32>,
    },
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// `+OK`: legal from a client, without effect.
    Ok,
    /// INFO with its JSON text: parsed by the server and ignored.
    Info(&'a [u8]),
    /// `-ERR`: the server logs it and closes.
    Err,
}

/// A MSG or HMSG line of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The subject that was published to.
    pub subject: &'a [u8],
    /// Subscription id.
    pub sid: &'a [u8],
    /// Reply subject.
    pub reply: Option<&'a [u8]>,
    /// Length of the header block in bytes: `Some` for HMSG.
    pub header_len: Option<u32>,
    /// Length of headers and payload together, in bytes.
    pub size: u32,
}

/// An operation of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// MSG or HMSG; the payload follows.
    Message(Message<'a>),
    /// INFO with its JSON text.
    Info(&'a [u8]),
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR` with the text between the quotes.
    Err(&'a [u8]),
}
