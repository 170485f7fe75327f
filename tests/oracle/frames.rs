//! What arrives, frame by frame: read as plainly as possible, with nothing of the product's decoder.

use super::subjects::show;

/// Something that a server says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Frame {
    /// A MSG or HMSG. First what tells messages apart, last the subscription.
    Message {
        subject: Vec<u8>,
        reply: Vec<u8>,
        header: Option<Vec<u8>>,
        body: Vec<u8>,
        sid: Vec<u8>,
    },
    /// Any other line, without its end.
    Line(Vec<u8>),
}

impl Frame {
    pub(crate) fn is_pong(&self) -> bool {
        *self == Self::Line(b"PONG".to_vec())
    }

    /// Said by whoever judges, not by whoever delivers.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Line(line) if line == b"+OK" || line.starts_with(b"-ERR"))
    }

    /// The reply subject of a request that nobody answers.
    pub(crate) fn no_responders(&self) -> Option<&[u8]> {
        match self {
            Self::Message {
                subject,
                header: Some(header),
                body,
                ..
            } if body.is_empty() && header.starts_with(b"NATS/1.0 503\r\n") => Some(subject),
            _ => None,
        }
    }

    pub(crate) fn show(&self) -> String {
        match self {
            Self::Line(line) => show(line),
            Self::Message {
                subject,
                reply,
                header,
                body,
                sid,
            } => {
                let header = header.as_ref().map(|header| format!(" [{}]", show(header)));
                let short = &body[..body.len().min(40)];
                format!(
                    "message on {}: {} reply {:?}{} {:?}",
                    show(sid),
                    show(subject),
                    show(reply),
                    header.unwrap_or_default(),
                    show(short)
                )
            }
        }
    }
}

/// The frame at the front and its length, and whether its sizes had leading zeros. None while it is not there whole.
pub(crate) fn next(stream: &[u8]) -> Option<(Frame, usize, bool)> {
    let line = stream.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let text = &stream[..line - 2];
    let with_header = text.starts_with(b"HMSG ");
    if !with_header && !text.starts_with(b"MSG ") {
        return Some((Frame::Line(text.to_vec()), line, false));
    }
    let mut words: Vec<&[u8]> = text
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .collect();
    let mut zeros = false;
    let mut size = |words: &mut Vec<&[u8]>| -> usize {
        let digits = words.pop().expect("a size");
        zeros |= digits.len() > 1 && digits[0] == b'0';
        std::str::from_utf8(digits)
            .expect("digits")
            .parse()
            .expect("a size")
    };
    let total = size(&mut words);
    let inner = if with_header { size(&mut words) } else { 0 };
    let end = line + total + 2;
    if stream.len() < end {
        return None;
    }
    assert_eq!(
        &stream[end - 2..end],
        b"\r\n",
        "a payload ends with CR LF: {}",
        show(text)
    );
    let frame = Frame::Message {
        subject: words[1].to_vec(),
        sid: words[2].to_vec(),
        reply: words.get(3).map(|reply| reply.to_vec()).unwrap_or_default(),
        header: with_header.then(|| stream[line..line + inner].to_vec()),
        body: stream[line + inner..line + total].to_vec(),
    };
    Some((frame, end, zeros))
}
