//! The account of a person who is signed in to the Azure CLI: `az account get-access-token`.
//!
//! Owns: running that one program. Must never: run a shell, or show what the program printed as a result.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::credential::AccessToken;
use super::error::{self, CredentialError};
use super::scope::Scope;
use crate::clock;
use crate::http::clip;
use crate::secret::Secret;
use crate::time::Timestamp;

/// What `az` prints. `expiresOn` is the local time of the machine, so only the newer `expires_on` is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    access_token: String,
    #[serde(rename = "expires_on")]
    expires_on: Option<u64>,
}

/// A token lives so long at least where `az` (before 2.54) does not say.
const SHORT_LIFE: Duration = Duration::from_secs(300);

/// A token of the account that is signed in to the Azure CLI. `az` is looked for in `PATH`, and stopped when it takes
/// longer than `patience`.
///
/// # Errors
/// [`CredentialError`]; code `credential.config` when there is no `az`, or nobody is signed in.
pub async fn azure_cli(
    scope: &Scope,
    tenant: Option<&str>,
    patience: Duration,
) -> Result<AccessToken, CredentialError> {
    let wanted = scope.scope();
    let mut command = Command::new("az");
    command.args([
        "account",
        "get-access-token",
        "--output",
        "json",
        "--scope",
        &wanted,
    ]);
    if let Some(tenant) = tenant {
        command.args(["--tenant", tenant]);
    }
    // Nothing in the folder of the caller may take the place of the program.
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let begun = clock::now();
    let output = match tokio::time::timeout(patience, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CredentialError::config("az is not installed"));
        }
        Ok(Err(error)) => {
            return Err(CredentialError::config(format!(
                "az cannot be run: {error}"
            )));
        }
        Err(_) => {
            let text = format!("az did not answer within {} s", patience.as_secs());
            return Err(CredentialError::unreachable(text));
        }
    };
    if !output.status.success() {
        return Err(complaint(&String::from_utf8_lossy(&output.stderr)));
    }
    token(zeroize::Zeroizing::new(output.stdout).as_slice(), begun)
}

fn token(printed: &[u8], begun: Timestamp) -> Result<AccessToken, CredentialError> {
    let written: Written = serde_json::from_slice(printed)
        .map_err(|_| CredentialError::malformed("az printed something that is no token"))?;
    let secret = Secret::new(written.access_token);
    if secret.is_empty() || !secret.expose().iter().all(u8::is_ascii_graphic) {
        return Err(CredentialError::malformed("az printed no usable token"));
    }
    let end = written.expires_on.map(Timestamp::from_secs);
    let life = end.map_or(SHORT_LIFE, |end| end.since(begun));
    if life.is_zero() {
        let text = "az printed a token that has expired; check the clock of this machine";
        return Err(CredentialError::malformed(text));
    }
    Ok(AccessToken::new(secret, begun, life, None))
}

/// What to do about what `az` said on its standard error.
fn complaint(said: &str) -> CredentialError {
    if let Some(refusal) = said.find("AADSTS").and_then(|at| said.get(at..)) {
        let body = serde_json::json!({ "error_description": refusal });
        return error::refused("az", 400, body.to_string().as_bytes());
    }
    if said.contains("az login") {
        return CredentialError::config("nobody is signed in to az; run az login");
    }
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    CredentialError::refused(format!("az said: {}", clip(last.unwrap_or("nothing"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_az_says_becomes_what_to_do() {
        for (said, wanted) in [
            (
                "ERROR: Please run 'az login' to setup account.",
                "run az login",
            ),
            (
                "ERROR: AADSTS65001: The user or administrator has not consented to use the application",
                "AADSTS65001",
            ),
            (
                "\nWARNING: x\nERROR: something \u{1b}[31melse\n",
                "az said: ERROR: something [31melse",
            ),
            ("", "az said: nothing"),
        ] {
            let error = complaint(said).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_token_without_an_end_counts_as_short() {
        let now = Timestamp::from_secs(1_000);
        let read = |text: &str| token(text.as_bytes(), now).map(|token| token.expires_at());
        assert_eq!(
            read(r#"{"accessToken":"a.b.c","expiresOn":"2026-01-01 10:00:00.000000"}"#),
            Ok(now.plus(SHORT_LIFE))
        );
        assert_eq!(
            read(r#"{"accessToken":"a.b.c","expires_on":2000}"#),
            Ok(Timestamp::from_secs(2000))
        );
        assert!(read(r#"{"accessToken":"a.b.c","expires_on":900}"#).is_err());
        assert!(read(r#"{"accessToken":"a b"}"#).is_err());
    }
}
