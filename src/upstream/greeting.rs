//! INFO of a server, as a dial reads it. A server says the same on each connection but for three values, so what says the same
//! again is compared with what was said before, byte for byte, in place of being read again.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use memchr::memmem;
use serde::Deserialize;

use crate::wire::ServerInfo;

/// One INFO, as read.
pub(super) struct Greeting {
    pub(super) info: Arc<ServerInfo>,
    /// What credentials that are keys have to sign, of this connection alone.
    pub(super) nonce: Option<Box<str>>,
}

impl Greeting {
    /// None when the bytes are not a JSON object with fields of the right type.
    fn read(json: &[u8]) -> Option<Self> {
        let info = ServerInfo::parse(json).ok()?;
        let Nonce { nonce } = serde_json::from_slice(json).ok()?;
        Some(Self {
            info: Arc::new(info),
            nonce,
        })
    }
}

#[derive(Deserialize)]
struct Nonce {
    #[serde(default)]
    nonce: Option<Box<str>>,
}

/// What was read last at one point of the handshakes with a server, of which one address can stand for several.
#[derive(Default)]
pub(super) struct LastInfo(ArcSwap<Vec<Arc<Said>>>);

impl LastInfo {
    /// Reads an INFO. None when the bytes are not a JSON object with fields of the right type.
    pub(super) fn read(&self, json: &[u8]) -> Option<Greeting> {
        let known = self.0.load();
        if let Some(again) = known.iter().find_map(|said| said.again(json)) {
            return Some(again);
        }
        let mut greeting = Greeting::read(json)?;
        // It may differ in what nobody reads: each session would hold what all of them hold.
        if let Some(same) = known.iter().find(|said| said.info == greeting.info) {
            greeting.info = Arc::clone(&same.info);
        }
        if let Some(said) = Said::of(json, &greeting) {
            let before = known.iter().take(KNOWN - 1).cloned();
            let known = std::iter::once(Arc::new(said)).chain(before).collect();
            self.0.store(Arc::new(known));
        }
        Some(greeting)
    }
}

/// An INFO that was read, as the pieces of its text between values that belong to one connection.
struct Said {
    pieces: Vec<Piece>,
    info: Arc<ServerInfo>,
}

struct Piece {
    text: Box<[u8]>,
    /// What comes behind it; none at the end.
    then: Option<Value>,
}

/// A value that belongs to one connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// `client_id`, which nobody reads.
    Number,
    /// `client_ip`, which nobody reads; with a PROXY header, the address of the client.
    Address,
    Nonce,
}

impl Value {
    /// What stands before it. In a string the quotes would be escaped.
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Number => b"\"client_id\":",
            Self::Address => b"\"client_ip\":\"",
            Self::Nonce => b"\"nonce\":\"",
        }
    }

    /// How long it is at the start of `text`; none where it is not there in its usual form.
    fn length(self, text: &[u8]) -> Option<usize> {
        let such = |byte: &u8| match self {
            Self::Number => byte.is_ascii_digit(),
            Self::Address => byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':'),
            // URL-safe base64 (`nkey.go:generateNonce`).
            Self::Nonce => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        };
        let length = text.iter().take_while(|byte| such(byte)).count();
        let padded = self == Self::Number && length > 1 && text.first() == Some(&b'0');
        (length > 0 && !padded).then_some(length)
    }

    /// Where it stands in a whole text, at whatever depth.
    fn place(self, json: &[u8]) -> Option<Range<usize>> {
        let at = memmem::find(json, self.name())?.saturating_add(self.name().len());
        let length = self.length(json.get(at..)?)?;
        Some(at..at.saturating_add(length))
    }
}

impl Said {
    /// None where the nonce of another connection could not be told from the text.
    fn of(json: &[u8], greeting: &Greeting) -> Option<Self> {
        let nonce = place_of_nonce(json, greeting);
        if nonce.is_none() && greeting.nonce.is_some() {
            return None;
        }
        let places = [
            (Value::Number.place(json), Value::Number),
            (Value::Address.place(json), Value::Address),
            (nonce, Value::Nonce),
        ];
        let mut places: Vec<(Range<usize>, Option<Value>)> = places
            .into_iter()
            .filter_map(|(place, value)| Some((place?, Some(value))))
            .collect();
        places.sort_by_key(|(place, _)| place.start);
        places.push((json.len()..json.len(), None));
        let mut from = 0_usize;
        let piece = |(place, then): (Range<usize>, Option<Value>)| {
            let text = json.get(from..place.start).unwrap_or_default().into();
            from = place.end;
            Piece { text, then }
        };
        Some(Self {
            pieces: places.into_iter().map(piece).collect(),
            info: Arc::clone(&greeting.info),
        })
    }

    /// What was read, where this text differs in those values alone.
    fn again(&self, json: &[u8]) -> Option<Greeting> {
        let (mut rest, mut nonce) = (json, None);
        for piece in &self.pieces {
            rest = rest.strip_prefix(&*piece.text)?;
            let Some(value) = piece.then else { break };
            let (text, behind) = rest.split_at_checked(value.length(rest)?)?;
            if value == Value::Nonce {
                nonce = Some(std::str::from_utf8(text).ok()?.into());
            }
            rest = behind;
        }
        let info = Arc::clone(&self.info);
        rest.is_empty().then_some(Greeting { info, nonce })
    }
}

/// Where the nonce stands, if it is plain and this is the only place that could be meant.
fn place_of_nonce(json: &[u8], greeting: &Greeting) -> Option<Range<usize>> {
    let place = Value::Nonce.place(json)?;
    let is_it = greeting.nonce.as_deref().map(str::as_bytes) == json.get(place.clone());
    let is_all = json.get(place.end) == Some(&b'"')
        && memmem::find_iter(json, b"nonce").count() == 1
        // It could be named with an escape.
        && memchr::memchr(b'\\', json).is_none();
    (is_it && is_all).then_some(place)
}

/// Texts that are kept: one for each server behind the address, mostly.
const KNOWN: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a server of 2.15 writes it, for connection `id`.
    fn said(id: u64, nonce: &str) -> String {
        format!(
            r#"{{"server_id":"NA","server_name":"plant","version":"2.15.1","proto":1,"go":"go1.27","host":"0.0.0.0","port":4222,"headers":true,"max_payload":1048576,"client_id":{id},"client_ip":"127.0.0.1","nonce":"{nonce}","xkey":"XA"}}"#
        )
    }

    fn read(last: &LastInfo, json: &str) -> (Arc<ServerInfo>, Option<Box<str>>) {
        let Greeting { info, nonce } = last.read(json.as_bytes()).unwrap();
        (info, nonce)
    }

    #[test]
    fn a_nonce_is_text_or_absent() {
        let nonce = |json: &str| Greeting::read(json.as_bytes()).map(|read| read.nonce);
        assert_eq!(nonce(r#"{"nonce":"n0nce"}"#), Some(Some("n0nce".into())));
        assert_eq!(nonce(r#"{"nonce":null}"#), Some(None));
        assert_eq!(nonce("{}"), Some(None));
        assert_eq!(nonce(r#"{"nonce":5}"#), None);
        assert_eq!(nonce("[]"), None);
    }

    #[test]
    fn the_same_of_another_connection_is_shared_and_its_nonce_is_its_own() {
        let last = LastInfo::default();
        let (first, nonce) = read(&last, &said(7, "abc-_9"));
        assert_eq!(nonce.as_deref(), Some("abc-_9"));
        let (second, nonce) = read(&last, &said(12_345_678_901, "Zz0"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(nonce.as_deref(), Some("Zz0"));
        let for_another = said(8, "abc").replace("127.0.0.1", "2001:db8::1");
        let (third, _) = read(&last, &for_another);
        assert!(Arc::ptr_eq(&first, &third));
    }

    #[test]
    fn as_many_servers_as_are_kept_may_share_an_address() {
        let last = LastInfo::default();
        let of = |server: usize| said(7, "abc").replace("\"NA\"", &format!("\"N{server}\""));
        let all: Vec<_> = (0..KNOWN)
            .map(|server| read(&last, &of(server)).0)
            .collect();
        for (server, first) in all.iter().enumerate() {
            assert!(Arc::ptr_eq(first, &read(&last, &of(server)).0), "{server}");
        }
        assert_eq!(read(&last, &of(KNOWN)).0.server_id, format!("N{KNOWN}"));
        assert!(!Arc::ptr_eq(&all[0], &read(&last, &of(0)).0));
        assert_eq!(last.0.load().len(), KNOWN);
    }

    #[test]
    fn what_only_looks_the_same_is_read() {
        let last = LastInfo::default();
        read(&last, &said(7, "abc"));
        for other in [
            said(7, "abc\\u0041"),
            said(7, ""),
            said(7, "abc").replace(":7,", ":70.5,"),
            said(7, "abc").replace("}", ",\"ldm\":true}"),
        ] {
            let again = |said: &Arc<Said>| said.again(other.as_bytes()).is_some();
            assert!(!last.0.load().iter().any(again), "{other}");
            let last = LastInfo(ArcSwap::new(last.0.load_full()));
            let (info, nonce) = read(&last, &other);
            let direct = Greeting::read(other.as_bytes()).unwrap();
            assert_eq!((info, nonce), (direct.info, direct.nonce), "{other}");
        }
        for broken in [
            said(7, "abc").replace(":7,", ":07,"),
            said(7, "abc").replace(":7,", ":,"),
            said(7, "abc").replace('}', ""),
            said(7, "abc") + "x",
        ] {
            assert!(last.read(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn what_differs_in_what_nobody_reads_is_shared() {
        let last = LastInfo::default();
        let of =
            |account: usize| format!(r#"{{"version":"2.15.1","remote_account":"A{account}"}}"#);
        let (first, _) = read(&last, &of(0));
        for account in 1..=2 * KNOWN {
            assert!(Arc::ptr_eq(&first, &read(&last, &of(account)).0));
        }
    }

    #[test]
    fn a_nonce_that_comes_again_is_there_again() {
        for text in [
            r#"{"nonce":"a+b="}"#,
            r#"{"nonce": "abc"}"#,
            r#"{"nonce":""}"#,
            r#"{"nonce":"abc","server_name":"nonce"}"#,
        ] {
            let last = LastInfo::default();
            let (_, first) = read(&last, text);
            assert_eq!(
                (read(&last, text).1, first.is_some()),
                (first, true),
                "{text}"
            );
        }
    }

    #[test]
    fn a_nonce_in_another_place_is_not_taken_for_it() {
        for form in [
            r#"{"x":{"nonce":"ONE"},"nonce":"TWO"}"#,
            r#"{"nonce" :"TWO","x":{"nonce":"ONE"}}"#,
            r#"{"\u006eonce":"TWO","x":{"nonce":"ONE"}}"#,
            r#"{"a\"nonce":"ONE","\u006eonce":"TWO"}"#,
        ] {
            let last = LastInfo::default();
            for (one, two) in [("a", "a"), ("b", "a"), ("a", "b"), ("b", "b")] {
                let text = form.replace("ONE", one).replace("TWO", two);
                assert_eq!(read(&last, &text).1.as_deref(), Some(two), "{text}");
            }
        }
    }

    proptest! {
        /// Whatever was read before, an INFO is read as it would be alone.
        #[test]
        fn what_was_read_before_changes_nothing(
            texts in prop::collection::vec(
                prop::collection::vec(prop::sample::select(PARTS), 1..5), 2..5,
            ),
        ) {
            let texts = texts.iter().chain(&texts);
            let last = LastInfo::default();
            for parts in texts {
                let json = format!("{{{}}}", parts.join(","));
                let direct = Greeting::read(json.as_bytes()).map(|read| (read.info, read.nonce));
                let here = last.read(json.as_bytes()).map(|read| (read.info, read.nonce));
                prop_assert_eq!(here, direct, "{}", json);
            }
        }
    }

    const PARTS: &[&str] = &[
        r#""client_id":1"#,
        r#""client_id":22"#,
        r#""client_id":0"#,
        r#""client_id":007"#,
        r#""client_id":-3"#,
        r#""client_id":4e2"#,
        r#""a\"client_id":5"#,
        r#""x":"\"client_id\":6""#,
        r#""nonce":"abc""#,
        r#""nonce":"d-_f""#,
        r#""nonce":"g.h""#,
        r#""nonce":"""#,
        r#""nonce":null"#,
        r#""y":{"nonce":"abc"}"#,
        r#""y":{"nonce":"ijk"}"#,
        r#""version":"2.9.10""#,
        r#""ldm":true"#,
        r#""client_ip":"10.1.2.3""#,
        r#""client_ip":"::ffff:10.0.0.1""#,
        r#""client_ip":"fe80::1%eth0""#,
        r#""client_ip":"""#,
        r#""server_name":"nonce""#,
        r#""\u006eonce":"lmn""#,
    ];
}
