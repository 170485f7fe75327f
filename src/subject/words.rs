//! Questions about short texts, eight bytes at a time in a register: beside subjects of a few dozen bytes, a call into a
//! vector search costs more than the answer.
//!
//! Must never: answer for less than the whole text.

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = ONES << 7;

/// Whether `input` begins with `text`.
#[inline(always)]
pub(crate) fn begins_with(input: &[u8], text: &[u8]) -> bool {
    let Some(input) = input.get(..text.len()) else {
        return false;
    };
    if let (Some(one), Some(other)) = (input.last_chunk::<8>(), text.last_chunk::<8>()) {
        // Lines of two subjects mostly differ near the end.
        let words = input.as_chunks::<8>().0.iter().zip(text.as_chunks::<8>().0);
        return one == other
            && words.fold(0, |unlike, (one, other)| {
                unlike | (u64::from_ne_bytes(*one) ^ u64::from_ne_bytes(*other))
            }) == 0;
    }
    if let (Some(one), Some(other)) = (input.last_chunk::<4>(), text.last_chunk::<4>()) {
        return one == other && input.first_chunk::<4>() == text.first_chunk::<4>();
    }
    input.iter().eq(text)
}

/// Whether a text has no byte up to SP.
#[inline(always)]
pub(crate) fn is_word(text: &[u8]) -> bool {
    all_bytes(text, |word| low(word) & TOPS == 0)
}

/// Whether a text is one token that nobody reads as a wildcard: not empty, without `.`, `*`, `>` and bytes up to SP.
#[inline(always)]
pub(crate) fn is_plain_token(text: &[u8]) -> bool {
    // The two bytes `*` and `.` differ in one bit.
    let unfit = |word: u64| {
        low(word) | zero((word & !repeat(b'*' ^ b'.')) ^ repeat(b'*')) | zero(word ^ repeat(b'>'))
    };
    !text.is_empty() && all_bytes(text, |word| unfit(word) & TOPS == 0)
}

/// Whether a text is one or more such tokens between dots.
#[inline(always)]
pub(crate) fn are_plain_tokens(text: &[u8]) -> bool {
    let unfit = |word: u64| low(word) | zero(word ^ repeat(b'*')) | zero(word ^ repeat(b'>'));
    let (Some(first), Some(last)) = (text.first(), text.last()) else {
        return false;
    };
    let inside = *first != b'.' && *last != b'.';
    inside
        && all_windows(text, |word| {
            let dots = zeros(word ^ repeat(b'.'));
            unfit(word) & TOPS == 0 && dots & (dots >> 8) == 0
        })
}

/// Whether `good` holds for words that have every byte of a text in them, and no others but, where it is short, letters.
#[inline(always)]
fn all_bytes(text: &[u8], good: impl Fn(u64) -> bool) -> bool {
    if let Some(last) = text.last_chunk::<8>() {
        let words = text.as_chunks::<8>().0.iter().chain([last]);
        return words.map(|word| u64::from_le_bytes(*word)).all(good);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return good(u64::from(first) << 32 | u64::from(last));
    }
    short(text).is_none_or(good)
}

/// Whether `good` holds for every window of eight bytes. Windows overlap, so that any two neighbours are in one of them;
/// where the text is short, letters fill the window up.
#[inline(always)]
fn all_windows(text: &[u8], good: impl Fn(u64) -> bool) -> bool {
    if let Some(last) = text.last_chunk::<8>() {
        let mut left = text;
        while let Some(window) = left.first_chunk::<8>() {
            if !good(u64::from_le_bytes(*window)) {
                return false;
            }
            left = left.get(7..).unwrap_or_default();
        }
        return good(u64::from_le_bytes(*last));
    }
    let filled = |window: &[u8; 4]| u64::from(u32::from_le_bytes(*window)) | repeat(b'a') << 32;
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return good(filled(first)) && good(filled(last));
    }
    short(text).is_none_or(good)
}

/// A text of one to three bytes in their order, a letter before and behind it.
#[inline(always)]
fn short(text: &[u8]) -> Option<u64> {
    let filled = |bytes: [u8; 3]| {
        let [one, two, three] = bytes;
        u64::from_le_bytes([b'a', one, two, three, b'a', b'a', b'a', b'a'])
    };
    match *text {
        [one, two, three] => Some(filled([one, two, three])),
        [one, two] => Some(filled([one, two, b'a'])),
        [one] => Some(filled([one, b'a', b'a'])),
        _ => None,
    }
}

const fn repeat(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Has a top bit set in some byte if some byte is zero. Only the lowest such bit is certain to be at one.
const fn zero(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word
}

/// Likewise if some byte is SP or below: those borrow (Hacker's Delight, 6-1).
const fn low(word: u64) -> u64 {
    word.wrapping_sub(repeat(b'!')) & !word
}

/// The top bit of exactly those bytes that are zero.
const fn zeros(word: u64) -> u64 {
    let sum = (word & !TOPS).wrapping_add(!TOPS);
    !(sum | word) & TOPS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subject::{has_empty_token, tokens};

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            12 => 0x21_u8..0x7F, 2 => Just(b'.'), 1 => prop::sample::select(b"*>-/+:!\x00\x20\x7F\x80\xFF".to_vec()),
        ];
        prop::collection::vec(byte, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn windows_say_what_single_bytes_say(text in text()) {
            let high = |text: &[u8]| text.iter().all(|byte| *byte > b' ');
            let wild = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'*' | b'>'));
            prop_assert_eq!(is_word(&text), high(&text));
            prop_assert_eq!(are_plain_tokens(&text), !has_empty_token(&text) && high(&text) && !wild(&text));
            for token in tokens(&text) {
                prop_assert_eq!(is_plain_token(token), !token.is_empty() && high(token) && !wild(token));
            }
            prop_assert_eq!(is_plain_token(&text), are_plain_tokens(&text) && !text.contains(&b'.'));
        }

        #[test]
        fn a_text_begins_with_its_beginnings_only(text in text(), other in text(), cut in 0..40_usize) {
            let beginning = &text[..cut.min(text.len())];
            prop_assert!(begins_with(&text, beginning));
            prop_assert_eq!(begins_with(&text, &other), text.starts_with(&other));
            let mut changed = beginning.to_vec();
            if let Some(byte) = changed.get_mut(cut / 2) {
                *byte ^= 1;
                prop_assert!(!begins_with(&text, &changed));
            }
        }
    }
}
