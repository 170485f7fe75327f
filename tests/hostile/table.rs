//! The table of attempts in the design record, held against the attempts that are made.

use std::path::Path;

const FILE: &str = "deploy/design/0007-hostile-attempts.md";

/// Every attempt has a row with its item, its name and a result, and every row that names this test has an attempt.
pub(crate) fn compare(attempts: &[(String, String)]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = std::fs::read_to_string(&file).expect("the design record");
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [item, name, result, "`hostile`"] = cells.as_slice() {
            assert!(!result.is_empty(), "no result: {line}");
            rows.push(((*item).to_owned(), (*name).to_owned()));
        }
    }
    let missing: Vec<_> = attempts.iter().filter(|row| !rows.contains(row)).collect();
    let invented: Vec<_> = rows.iter().filter(|row| !attempts.contains(row)).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{FILE}: without a row: {missing:#?}; without an attempt: {invented:#?}"
    );
}
