//! Does the corpus of tokens find a gate that has lost one of its checks?
//!
//! Each line of [`PLANTED`] takes one check out of the source. That the list still fits the source is tested always; that
//! the corpus finds each of them takes a build for each, so that it is done when asked for:
//!
//! ```text
//! NATSENTRY_PLANTED=1 cargo test --test planted -- --nocapture
//! ```
//!
//! The faults are planted in a copy below `target/planted`, and what was found is printed as a table, which
//! `tests/corpus/README.md` holds.
#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is lost, in which file of `src/identity`, the text there, and what takes its place.
const PLANTED: [(&str, &str, &str, &str); 29] = [
    (
        "bound on the size",
        "segments.rs",
        "if token.len() > size {",
        "if token.len() > size * 2 {",
    ),
    (
        "`alg` is RS256",
        "header.rs",
        "if alg == \"RS256\" => return Ok(()),",
        "if !alg.is_empty() => return Ok(()),",
    ),
    (
        "no `nonce` in the header",
        "header.rs",
        "if header.member(\"nonce\").is_some() {",
        "if header.member(\"-\").is_some() {",
    ),
    (
        "no `crit`, no `b64`",
        "header.rs",
        "if header.member(\"crit\").is_some() || header.member(\"b64\").is_some() {",
        "if header.member(\"-\").is_some() {",
    ),
    (
        "no key in the header",
        "header.rs",
        "for name in [\"jwk\", \"jku\", \"x5u\", \"x5c\"] {",
        "for name in [\"-\"] {",
    ),
    (
        "only four header names",
        "header.rs",
        ".find(|(name, _)| !matches!(*name, \"typ\" | \"alg\" | \"kid\" | \"x5t\"))",
        ".find(|(name, _)| name.is_empty())",
    ),
    (
        "`typ` is one of two",
        "header.rs",
        "if accepted.iter().any(|t| t.eq_ignore_ascii_case(typ)) => {",
        "if accepted.len() > typ.len().min(1) => {",
    ),
    (
        "Entra always writes `typ`",
        "token.rs",
        "if !typed && authority.shape.is_entra() {",
        "if !typed && !authority.shape.is_entra() {",
    ),
    (
        "`kid` is printable and short",
        "header.rs",
        "Some(Value::String(kid)) if is_kid(kid) => return Ok(owned(kid)),",
        "Some(Value::String(kid)) if !kid.is_empty() || is_kid(kid) => return Ok(owned(kid)),",
    ),
    (
        "`x5t` and `kid` name one key",
        "token.rs",
        "(Some(named), Some(published)) if named != published => Err(",
        "(Some(named), Some(published)) if named.len() > 999 && named != published => Err(",
    ),
    (
        "the signature",
        "token.rs",
        ".is_some_and(|signature| key.verifies(segments.signed, &signature));",
        ".is_some_and(|signature| !signature.is_empty() || key.verifies(segments.signed, &signature));",
    ),
    (
        "no name twice",
        "strict_json.rs",
        "unique(&members)?;",
        "let _ = unique(&members);",
    ),
    (
        "claims in their right case",
        "claims.rs",
        "right_case(&object)?;",
        "let _ = right_case(&object);",
    ),
    (
        "`exp` without leeway",
        "checks.rs",
        "if end <= now {",
        "if end.plus(limits.skew) <= now {",
    ),
    (
        "`nbf` and `iat` are not ahead",
        "checks.rs",
        "if at > horizon {",
        "if at > horizon.plus(limits.lifetime) {",
    ),
    (
        "`exp` after `nbf` and `iat`",
        "checks.rs",
        "if claims.exp <= claims.iat || claims.nbf.is_some_and(|nbf| claims.exp <= nbf) {",
        "if claims.exp == u64::MAX {",
    ),
    (
        "bound on the lifetime",
        "checks.rs",
        "if Duration::from_secs(claims.exp.saturating_sub(start)) > longest {",
        "if Duration::from_secs(claims.exp.saturating_sub(start)) > longest * 999_999 {",
    ),
    (
        "`ver` is that of the issuer",
        "checks.rs",
        "if version.is_some() && claims.ver != version {",
        "if version.is_some() && claims.ver.is_none() {",
    ),
    (
        "`tid` is that of the issuer",
        "checks.rs",
        "        && claims.tid != Some(tid)\n",
        "        && claims.tid.is_none_or(|other| tid.is_empty() && other != tid)\n",
    ),
    (
        "the key's issuer",
        "checks.rs",
        "if !bound.trim().is_empty() && !ours.any(",
        "if bound.trim().len() > 9999 && !ours.any(",
    ),
    (
        "the key's cloud",
        "checks.rs",
        "(Some(theirs), Some(ours)) if theirs != ours => Err(",
        "(Some(theirs), Some(ours)) if theirs.is_empty() && theirs != ours => Err(",
    ),
    (
        "`aud` byte for byte",
        "checks.rs",
        ".any(|known| **known == **audience)",
        ".any(|known| audience.contains(&**known))",
    ),
    (
        "`aud` of Entra is one text",
        "typed.rs",
        "Value::Array(_) if shape == Shape::Oidc => {",
        "Value::Array(_) if shape == Shape::Oidc || shape.is_entra() => {",
    ),
    (
        "no ID token",
        "kind.rs",
        "if !authority.accept.id_tokens {",
        "if authority.accept.id_tokens {",
    ),
    (
        "`idtyp` app has no scope",
        "kind.rs",
        "Some(\"app\") if scoped => Err(",
        "Some(\"app\") if scoped && claims.scopes.is_empty() => Err(",
    ),
    (
        "a bound token is no bearer token",
        "kind.rs",
        "(Confirmation::None, _) => Ok(()),",
        "(Confirmation::None, _) | (_, None) => Ok(()),",
    ),
    (
        "some right",
        "kind.rs",
        "if !enough {",
        "if !enough && claims.exp == 0 {",
    ),
    (
        "a scope is a scope",
        "claims.rs",
        ".find(|scope| !is_scope(scope)) {",
        ".find(|scope| scope.is_empty() && !is_scope(scope)) {",
    ),
    (
        "`_claim_names` leaves groups unknown",
        "claims.rs",
        "value.as_object().is_none_or(names_groups);",
        "value.as_object().is_some_and(|o| names_groups(o) && o.member(\"-\").is_some());",
    ),
];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn source(root: &Path, file: &str) -> PathBuf {
    root.join("src/identity").join(file)
}

#[test]
fn every_planted_fault_has_one_place_in_the_source() {
    for (what, file, text, _) in PLANTED {
        let source = fs::read_to_string(source(&root(), file)).unwrap();
        assert_eq!(source.matches(text).count(), 1, "{what}: {file}");
    }
}

/// Everything that the test of the corpus is built from.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), entry.path());
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            let text = fs::read(&path).unwrap();
            // What is the same stays untouched, so that it is not built again.
            if fs::read(to.join(&name)).ok() != Some(text.clone()) {
                fs::write(to.join(name), text).unwrap();
            }
        }
    }
}

/// Runs the test of the corpus on the copy: whether it was built, whether it passed, and what it said.
fn corpus(copy: &Path, target: &Path) -> (bool, bool, String) {
    let output = Command::new(env!("CARGO"))
        .args([
            "test",
            "--locked",
            "--test",
            "tokens",
            "every_token_of_the_corpus",
        ])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        said.contains("test result:"),
        output.status.success(),
        said + &errors,
    )
}

#[test]
#[allow(clippy::print_stdout, reason = "its table is what it is run for")]
fn the_corpus_finds_every_planted_fault() {
    if std::env::var_os("NATSENTRY_PLANTED").is_none() {
        return;
    }
    let target = root().join("target/planted");
    let place = target.join("copy");
    for folder in ["src", "tests", "benches", "proto-fixtures", "deploy"] {
        copy(&root().join(folder), &place.join(folder));
    }
    for file in ["Cargo.toml", "Cargo.lock", "README.md", "clippy.toml"] {
        fs::copy(root().join(file), place.join(file)).unwrap();
    }
    let (_, passed, said) = corpus(&place, &target);
    assert!(passed, "without a fault: {said}");
    println!("| lost check | rows that tell | among them |\n|---|---:|---|");
    let mut missed = Vec::new();
    for (what, file, text, instead) in PLANTED {
        let path = source(&place, file);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, whole.replacen(text, instead, 1)).unwrap();
        let (built, passed, said) = corpus(&place, &target);
        fs::write(&path, whole).unwrap();
        let rows: Vec<&str> = said
            .lines()
            .filter(|line| line.contains(": wanted "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let some = rows.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        println!("| {what} | {} | {some} |", rows.len());
        if !built {
            missed.push(format!("{what}: not built: {said}"));
        } else if passed || rows.is_empty() {
            missed.push(what.to_owned());
        }
    }
    assert!(missed.is_empty(), "not found: {}", missed.join("\n"));
}
