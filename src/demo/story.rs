//! The story: who connects with which token, what each may do, what is denied and how the client sees it.
//!
//! Owns: the order of the steps, and what they share. Must never: state what was not observed in this very run: every
//! statement is a check, and one that fails ends the demonstration.

mod evidence;
mod rights;
mod tokens;

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::time::Instant;

use super::client::{Client, Heard, Proof};
use super::idp::TokenRequest;
use super::stage::{LOOK_AGAIN, PATIENCE, Stage};
use super::terminal::{Terminal, shorten};
use crate::identity::{Inspection, inspect};
use crate::policy::document::{Reach, Role};

/// What clients are told when they are not admitted, whatever the reason.
const REFUSED: &str = "-ERR 'Authorization Violation'";

/// What the steps share.
struct Story<'a> {
    stage: &'a Stage,
    program: &'a Path,
    terminal: Terminal,
    steps: usize,
    /// Every token that was sent, to look for in places where none may be.
    tokens: Vec<String>,
    /// Operations that were denied and deliveries kept back, as the clients counted.
    denied: u64,
    /// Clients that were not admitted, as they counted.
    refused: u64,
}

/// Those who stay connected.
struct Cast {
    alice: Client,
    bob: Client,
    gateway: Client,
}

/// Tells it.
///
/// # Errors
/// When something is not as told, or the reader of standard output has gone.
pub(super) async fn tell(stage: &Stage, terminal: Terminal, program: &Path) -> anyhow::Result<()> {
    let (tokens, steps, denied, refused) = (Vec::new(), 0, 0, 0);
    let mut story = Story {
        stage,
        program,
        terminal,
        steps,
        tokens,
        denied,
        refused,
    };
    let told = story.all().await;
    told.with_context(|| format!("step {}", story.steps))
}

impl Story<'_> {
    async fn all(&mut self) -> anyhow::Result<()> {
        self.one_password().await?;
        let mut cast = self.introductions().await?;
        self.wildcard_with_a_deny(&mut cast).await?;
        self.denied_request(&mut cast).await?;
        self.bucket(&mut cast).await?;
        self.nobody_s_role().await?;
        self.bad_tokens().await?;
        self.short_token().await?;
        self.too_many_groups().await?;
        self.behind_the_proxy().await?;
        self.metrics().await?;
        self.audit().await?;
        self.explain().await?;
        self.inspect().await?;
        self.farewell(cast).await
    }

    /// All three still serve after everything; then they leave, so that what the feed tells afterwards is news.
    async fn farewell(&self, mut cast: Cast) -> anyhow::Result<()> {
        for client in [&mut cast.alice, &mut cast.bob, &mut cast.gateway] {
            client.settle().await?;
        }
        drop(cast);
        let until = Instant::now() + PATIENCE;
        while self.sessions().await?.get("total") != Some(&Value::from(0)) {
            if Instant::now() > until {
                bail!("sessions are left although their clients are gone");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn step(&mut self, text: &str) -> anyhow::Result<()> {
        self.steps += 1;
        Ok(self.terminal.step(self.steps, text)?)
    }

    /// A token, noted down for [`Story::tokens`].
    fn token(&mut self, request: &TokenRequest) -> anyhow::Result<String> {
        let token = self.stage.idp.mint(request)?;
        self.tokens.push(token.clone());
        Ok(token)
    }

    /// Connects to the proxy with a token.
    async fn open(
        &self,
        name: &'static str,
        token: &str,
        terminal: Terminal,
    ) -> anyhow::Result<(Client, Heard)> {
        let mut client = Client::open(terminal, name, self.stage.client).await?;
        let heard = client.connect(Proof::Token(token)).await?;
        Ok((client, heard))
    }

    /// Shows a token's claims and the role that they lead to, connects, and looks up the session.
    async fn introduce(
        &mut self,
        name: &'static str,
        role: &str,
        claims: &[&str],
    ) -> anyhow::Result<Client> {
        let token = self.token(&TokenRequest::of(name))?;
        let seen = inspect(token.as_bytes());
        self.terminal.fact("token", &shorten(&token))?;
        for claim in claims {
            self.terminal
                .fact("", &format!("{claim:<9} {}", fact(&seen, claim)))?;
        }
        self.show_role(role)?;
        let (client, heard) = self.open(name, &token, self.terminal).await?;
        let oid = fact(&seen, "oid");
        let row = self.session(&oid).await?;
        let roles = row.get("roles").cloned().unwrap_or_default();
        let (ends_at, expiry) = (text(&row, "ends_at"), fact(&seen, "exp"));
        self.terminal.check(
            &format!("{name} is in, as {role} and nothing else, until the token ends"),
            heard.is("PONG")
                && roles == serde_json::json!([role])
                && !ends_at.is_empty()
                && ends_at == expiry,
            || format!("{}, session {row}, exp {expiry}", heard.shown()),
        )?;
        Ok(client)
    }

    /// The role as it stands in the file.
    fn show_role(&self, name: &str) -> anyhow::Result<()> {
        let config = &self.stage.config;
        let role = config.policy_document.roles.get(name);
        let role = role.with_context(|| format!("the configuration has no role {name}"))?;
        let line = config.source.position(&format!("roles.{name}"));
        let line = line
            .with_context(|| format!("the role {name} stands nowhere"))?
            .line;
        self.terminal
            .fact("role", &format!("{name}, natsentry.yaml:{line}"))?;
        for (word, subjects) in grants(role) {
            self.terminal.fact("", &format!("{word:<9} {subjects}"))?;
        }
        Ok(())
    }

    /// The session of an identity, as the admin interface lists it.
    async fn session(&self, oid: &str) -> anyhow::Result<Value> {
        let list = self.sessions().await?;
        let rows = list.get("sessions").and_then(Value::as_array);
        let row = rows
            .into_iter()
            .flatten()
            .find(|row| text(row, "oid") == oid);
        row.cloned()
            .with_context(|| format!("/sessions has no session of {oid}: {list}"))
    }

    async fn sessions(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.stage.get("/sessions").await?)?)
    }

    /// The newest line of the audit that fits, once it is there.
    async fn audited(&self, what: &str, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.audit_lines()?.into_iter().rev().find(&fits) {
                return Ok(line);
            }
            if Instant::now() > until {
                bail!("the audit has no line about {what}");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Every complete line of the audit.
    fn audit_lines(&self) -> anyhow::Result<Vec<Value>> {
        let whole = std::fs::read_to_string(self.stage.audit_file())?;
        let complete = whole.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("audit: {line}")))
            .collect()
    }
}

/// A claim as it is shown, times without their seconds since 1970; `-` where there is none.
fn fact(seen: &Inspection, claim: &str) -> String {
    let shown = seen.fact(claim).unwrap_or("-");
    let time = shown
        .split_once(" (")
        .and_then(|(_, time)| time.strip_suffix(')'));
    time.unwrap_or(shown).to_owned()
}

/// A text member of a JSON object; empty where there is none.
fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The words of a role with what they grant, without those that grant nothing.
fn grants(role: &Role) -> Vec<(&'static str, String)> {
    let subscribe = |list: &[crate::policy::document::SubscribeGrant]| {
        let subjects: Vec<&str> = list.iter().map(|grant| grant.parts().0).collect();
        subjects.join("  ")
    };
    let reach = |word: &'static str, reach: &Reach| match reach {
        Reach::None | Reach::All(false) => None,
        Reach::All(true) => Some(word.to_owned()),
        Reach::Some(keys) => Some(format!("{word} {}", keys.join(" "))),
    };
    let buckets: Vec<String> = role
        .kv
        .iter()
        .map(|(name, grant)| {
            let words = [reach("read", &grant.read), reach("write", &grant.write)];
            format!(
                "{name}: {}",
                words.into_iter().flatten().collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    let mut shown = vec![
        ("publish", role.publish.join("  ")),
        ("subscribe", subscribe(&role.subscribe)),
        ("deny", subscribe(&role.deny.subscribe)),
        ("kv", buckets.join("  ")),
    ];
    shown.retain(|(_, subjects)| !subjects.is_empty());
    shown
}
