//! The canonical encoder: single blanks, upper-case verbs, minimal decimals, CR LF. It writes what was understood,
//! never what was received.

/// Longest decimal of a `u32`.
const DIGITS_MAX: usize = 10;

/// Appends `number` in decimal.
pub fn decimal(out: &mut Vec<u8>, number: u32) {
    let mut digits = [0_u8; DIGITS_MAX];
    let mut rest = number;
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' | u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(DIGITS_MAX - used..).unwrap_or_default());
}

/// Appends a PUB line, or an HPUB line when there is a header length.
pub fn publish(
    out: &mut Vec<u8>,
    subject: &[u8],
    reply: Option<&[u8]>,
    header_len: Option<u32>,
    size: u32,
) {
    out.extend_from_slice(if header_len.is_some() {
        b"HPUB "
    } else {
        b"PUB "
    });
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
    if let Some(header_len) = header_len {
        decimal(out, header_len);
        out.push(b' ');
    }
    decimal(out, size);
    out.extend_from_slice(b"\r\n");
}

/// Appends a SUB line.
pub fn subscribe(out: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(queue) = queue {
        out.extend_from_slice(queue);
        out.push(b' ');
    }
    out.extend_from_slice(sid);
    out.extend_from_slice(b"\r\n");
}

/// Appends an UNSUB line.
pub fn unsubscribe(out: &mut Vec<u8>, sid: &[u8], max: Option<u32>) {
    out.extend_from_slice(b"UNSUB ");
    out.extend_from_slice(sid);
    if let Some(max) = max {
        out.push(b' ');
        decimal(out, max);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a MSG frame with its payload: an answer that natsentry itself gives.
pub fn message(out: &mut Vec<u8>, subject: &[u8], sid: &[u8], payload: &[u8]) {
    out.extend_from_slice(b"MSG ");
    out.extend_from_slice(subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
    decimal(out, u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends the "no responders" answer to a request: an HMSG with status 503 and no payload.
///
/// Servers from 2.12 name the subject of the request in it (`client.go:processInboundClientMsg`).
pub fn no_responders(out: &mut Vec<u8>, reply: &[u8], sid: &[u8], request: Option<&[u8]>) {
    let mut headers = b"NATS/1.0 503\r\n".to_vec();
    if let Some(subject) = request {
        headers.extend_from_slice(b"Nats-Subject: ");
        headers.extend_from_slice(subject);
        headers.extend_from_slice(b"\r\n");
    }
    headers.extend_from_slice(b"\r\n");
    let len = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(b"HMSG ");
    out.extend_from_slice(reply);
    out.push(b' ');
    out.extend_from_slice(sid);
    out.push(b' ');
    decimal(out, len);
    out.push(b' ');
    decimal(out, len);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&headers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_minimal() {
        for number in [0, 7, 10, 99, 100, 999_999_999, u32::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn no_responders_is_the_servers() {
        let mut out = Vec::new();
        no_responders(&mut out, b"_INBOX.a", b"1", None);
        assert_eq!(out, b"HMSG _INBOX.a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        out.clear();
        no_responders(&mut out, b"_INBOX.a", b"1", Some(b"svc.x"));
        assert_eq!(
            out,
            b"HMSG _INBOX.a 1 37 37\r\nNATS/1.0 503\r\nNats-Subject: svc.x\r\n\r\n\r\n"
        );
    }
}
