//! The reader beside serde_json, and what it refuses that serde_json takes.

use super::*;

const LIMITS: Limits = Limits {
    depth: 16,
    values: 1000,
    names: 100,
};

fn read(text: &str) -> Result<Value<'_>, JsonError> {
    parse(text.as_bytes(), LIMITS)
}

#[test]
fn reads_what_serde_json_reads() {
    for text in [
        "{}",
        "[]",
        " { \"a\" : [ 1 , -2.5e+3 , true , false , null , \"x\\u0041\\ud83d\\ude00\\n\" ] } ",
        "{\"a\":{\"b\":{\"c\":[[],[{}]]}}}",
        "0",
        "\"\"",
        "-0",
        "1E5",
    ] {
        assert!(read(text).is_ok(), "{text}");
        assert!(
            serde_json::from_str::<serde_json::Value>(text).is_ok(),
            "{text}"
        );
    }
    let value = read("{\"a\":\"x\\u0041\\ud83d\\ude00\"}").unwrap();
    assert_eq!(
        value.as_object().unwrap().member("a").unwrap().as_str(),
        Some("xA\u{1f600}")
    );
}

#[test]
fn refuses_what_is_not_json() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "tru",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "nul",
        "{\"a\":1 \"b\":2}",
        "[1 2]",
        "NaN",
        "'a'",
        "[1}",
        "{\"a\":1]",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn refuses_trailing_bytes_and_byte_order_marks() {
    assert_eq!(read("{} x"), Err(JsonError::Trailing(3)));
    assert_eq!(read("{}{}"), Err(JsonError::Trailing(2)));
    assert_eq!(read("{}\0"), Err(JsonError::Trailing(2)));
    assert_eq!(read("\u{feff}{}"), Err(JsonError::ByteOrderMark));
    assert_eq!(parse(b"{\"a\":\"\xff\"}", LIMITS), Err(JsonError::Utf8(6)));
}

#[test]
fn refuses_lone_surrogates_in_every_position() {
    for text in [
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800x\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\n\"",
    ] {
        assert_eq!(read(text), Err(JsonError::LoneSurrogate(1)), "{text}");
    }
}

#[test]
fn refuses_duplicate_names_after_unescaping_at_any_level() {
    assert_eq!(
        read("{\"tid\":1,\"\\u0074id\":2}"),
        Err(JsonError::Duplicate("tid".into()))
    );
    assert_eq!(
        read("[{\"x\":{\"a\":1,\"a\":1}}]"),
        Err(JsonError::Duplicate("a".into()))
    );
}

#[test]
fn refuses_names_that_differ_in_case_only() {
    for text in [
        "{\"tid\":1,\"TID\":2}",
        "{\"u\u{17f}er\":1,\"user\":2}",
        "{\"\u{212a}id\":1,\"kid\":2}",
    ] {
        assert!(
            matches!(read(text), Err(JsonError::CaseCollision(..))),
            "{text}"
        );
    }
}

#[test]
fn refuses_depth_beyond_the_limit_without_recursion() {
    let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
    assert_eq!(read(&deep), Err(JsonError::Depth(16)));
    let fits = format!("{}{}", "[".repeat(16), "]".repeat(16));
    assert!(read(&fits).is_ok());
    let hostile = "[".repeat(1_000_000);
    assert_eq!(read(&hostile), Err(JsonError::Depth(16)));
}

#[test]
fn refuses_more_values_or_names_than_the_limit() {
    let many = format!("[{}0]", "0,".repeat(1000));
    assert_eq!(read(&many), Err(JsonError::TooMany(1000)));
    let names: Vec<String> = (0..101).map(|n| format!("\"n{n}\":0")).collect();
    assert_eq!(
        read(&format!("{{{}}}", names.join(","))),
        Err(JsonError::TooMany(100))
    );
}

#[test]
fn finds_duplicates_among_many_names() {
    let mut names: Vec<String> = (0..90).map(|n| format!("\"n{n}\":0")).collect();
    assert!(read(&format!("{{{}}}", names.join(","))).is_ok());
    names.push("\"N45\":0".into());
    assert!(matches!(
        read(&format!("{{{}}}", names.join(","))),
        Err(JsonError::CaseCollision(..))
    ));
}

#[test]
fn an_integer_has_no_fraction_exponent_or_sign() {
    assert_eq!(read("12").unwrap().as_u64(), Some(12));
    for text in [
        "12.0",
        "1e3",
        "-1",
        "18446744073709551616",
        "\"12\"",
        "true",
    ] {
        assert_eq!(read(text).unwrap().as_u64(), None, "{text}");
    }
}

/// The same value as serde_json sees it, numbers as text.
fn as_serde(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(text) => serde_json::from_str(text).unwrap(),
        Value::String(text) => text.as_ref().into(),
        Value::Array(items) => items.iter().map(as_serde).collect(),
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| (name.to_owned(), as_serde(value)))
            .collect(),
    }
}

proptest::proptest! {
    #[test]
    fn what_is_accepted_means_the_same_to_another_reader(
        text in "[\\[\\]{}\",:0-9a-c.eE+\\\\ u-]{0,40}",
    ) {
        if let Ok(value) = read(&text)
            && let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&text)
        {
            proptest::prop_assert_eq!(as_serde(&value), theirs);
        } else if let Ok(value) = read(&text) {
            // serde_json alone refuses numbers beyond f64.
            let number = matches!(value, Value::Number(_)) || text.contains(['e', 'E']);
            proptest::prop_assert!(number, "{}", text);
        }
    }

    #[test]
    fn what_serde_json_writes_is_read_back(
        names in proptest::collection::btree_set("[a-z]{1,8}", 0..8), text in ".{0,30}", number in 0_u64..,
    ) {
        let members = names.iter().map(|name| (name.clone(), serde_json::json!([text, number])));
        let value = serde_json::Value::Object(members.collect());
        let written = value.to_string();
        proptest::prop_assert_eq!(as_serde(&read(&written).unwrap()), value);
    }
}
