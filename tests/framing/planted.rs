//! The oracle has to find what is wrong, or its silence means nothing: judges that frame as real proxies have done.

use natsentry::session::CloseReason;
use natsentry::wire::{ClientOp, LineLimits, Publish};

use super::generate::{self, Random};
use super::properties::client_stream::{WORLDS, check};
use super::properties::reading::{self, Decode, Line};

/// Streams within which each fault has to be found.
const ENOUGH: usize = 20_000;

#[test]
fn wrong_framing_is_found() {
    let faults: [(&str, Decode); 4] = [
        ("any white space separates", any_white_space),
        ("a size may have ten digits", ten_digits),
        ("leading zeros are octal", octal),
        ("a payload line of its own", no_headers),
    ];
    for (what, decode) in faults {
        let mut random = Random(20_261_128);
        let found = (1..=ENOUGH).find_map(|count| {
            let stream = generate::stream(&mut random);
            let fault = check(&WORLDS[0], &stream, &[&stream], decode).err()?;
            Some((count, fault))
        });
        let (count, fault) =
            found.unwrap_or_else(|| panic!("not found in {ENOUGH} streams: {what}"));
        eprintln!("{what}: found in stream {count}: {fault}");
    }
}

/// The PUB at the start of the input, its words separated by `blank`, its size read by `size`.
fn publish<'a>(
    input: &'a [u8],
    limits: LineLimits,
    blank: fn(&u8) -> bool,
    size: fn(&str) -> Option<u32>,
) -> Line<'a> {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (Some(end), Some(arguments)) = (end, input.strip_prefix(b"PUB ")) else {
        return reading::natsentry(input, limits);
    };
    let line = &arguments[..end.saturating_sub(4).min(arguments.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line.split(blank).filter(|word| !word.is_empty()).collect();
    let [subject, reply @ .., digits] = words.as_slice() else {
        return Line::Fault(CloseReason::Malformed);
    };
    match (reply, std::str::from_utf8(digits).ok().and_then(size)) {
        ([] | [_], Some(size)) => Line::Whole(
            ClientOp::Publish(Publish {
                subject,
                reply: reply.first().copied(),
                header_len: None,
                size,
            }),
            end + 1,
        ),
        _ => Line::Fault(CloseReason::Malformed),
    }
}

const fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn any_white_space(input: &[u8], limits: LineLimits) -> Line<'_> {
    publish(input, limits, u8::is_ascii_whitespace, |text| {
        text.parse().ok()
    })
}

fn ten_digits(input: &[u8], limits: LineLimits) -> Line<'_> {
    publish(input, limits, is_blank, |text| text.parse().ok())
}

fn octal(input: &[u8], limits: LineLimits) -> Line<'_> {
    publish(input, limits, is_blank, |text| {
        if text.len() > 9 || text.starts_with('+') {
            return None;
        }
        u32::from_str_radix(text, if text.starts_with('0') { 8 } else { 10 }).ok()
    })
}

/// Takes the headers of an HPUB for all of it.
fn no_headers(input: &[u8], limits: LineLimits) -> Line<'_> {
    match reading::natsentry(input, limits) {
        Line::Whole(ClientOp::Publish(publish), len) => {
            let size = publish.header_len.unwrap_or(publish.size);
            Line::Whole(ClientOp::Publish(Publish { size, ..publish }), len)
        }
        other => other,
    }
}
