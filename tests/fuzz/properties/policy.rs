//! The configuration, as far as one file goes: YAML, the document, the compiled policy.

use std::path::Path;

use natsentry::config::Config;
use natsentry::policy::Policy;

use super::token::NOW;

/// The text of a configuration file.
///
/// Mistakes are told one by one, each with a place inside the file; what is accepted compiles again to the same policy, and
/// means the same with a comment in front.
pub fn policy_document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A configuration may name any file of its machine, and some of those never end.
    if ["/dev", "/proc", "/sys", "file:"]
        .iter()
        .any(|word| text.contains(word))
    {
        return;
    }
    match read(text) {
        Ok(config) => {
            let again = Policy::compile(&config.policy_document).expect("the same document");
            assert_eq!(again.hash(), config.policy.hash());
            let commented = format!("# fuzz\n{text}");
            let same = read(&commented).expect("a comment is not a mistake");
            assert_eq!(same.policy.hash(), config.policy.hash());
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            // A CR of its own ends a line of YAML too, and what is missing at the end is missed on the line behind it.
            let lines = text.matches(['\r', '\n']).count() + 2;
            for mistake in mistakes.iter() {
                let line = mistake.at.line;
                assert!((1..=lines).contains(&line), "{mistake:?} in {lines} lines");
                assert!(!mistake.message.contains(char::is_control), "{mistake:?}");
                mistakes.source_line(mistake);
            }
            drop(mistakes.to_string());
        }
    }
}

fn read(text: &str) -> Result<Config, natsentry::config::Mistakes> {
    Config::parse(text, "natsentry.yaml", Path::new("/nonexistent"), NOW)
}
