//! Steps about tokens that do not pass, and about one that ends while it is in use.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{REFUSED, Story, text};
use crate::clock;
use crate::demo::client::Heard;
use crate::demo::idp::{Endpoint, Seen, TokenRequest, patch};

/// Microsoft Graph: the application for which people most often get a token by mistake.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";

/// How long the short token lives, in seconds.
const SHORT_SECS: u64 = 4;

/// How far from the token's end a session may end, in seconds.
const CLOSE_TO: f64 = 2.0;

impl Story<'_> {
    /// A good token, and no role.
    pub(super) async fn nobody_s_role(&mut self) -> anyhow::Result<()> {
        self.step("mallory's token is genuine, but nobody gave her a role")?;
        let token = self.token(&TokenRequest::of("mallory"))?;
        let (mut client, heard) = self.open("mallory", &token, self.terminal).await?;
        let end = client.hear().await?;
        self.refused += 1;
        let (code, sentence) = self.reason("authz.norule").await?;
        self.terminal.fact("log", &format!("{code}: {sentence}"))?;
        self.terminal.check(
            "the client is told no more than nats-server would tell; the log says what was missing",
            heard.is(REFUSED) && end == Heard::Closed && !sentence.is_empty(),
            || format!("{}, {}", heard.shown(), end.shown()),
        )
    }

    /// Tokens that fail for different reasons look the same to their bearers.
    pub(super) async fn bad_tokens(&mut self) -> anyhow::Result<()> {
        self.step("tokens that must not pass: the same answer for all, and the reason in the log")?;
        let past = |secs| clock::now().minus(Duration::from_secs(secs)).as_secs();
        let (issued, ended) = (past(4200), past(600));
        let expired = TokenRequest::of("alice")
            .claim("iat", issued)
            .claim("nbf", issued);
        let expired = self.token(&expired.claim("exp", ended))?;
        let other = self.token(&TokenRequest::of("alice").claim("aud", GRAPH))?;
        let bobs = self.token(&TokenRequest::of("bob"))?;
        let altered = promote(&bobs).context("a token has three parts")?;
        let foreign = self.stage.stranger.mint(&TokenRequest::of("alice"))?;
        self.tokens.extend([altered.clone(), foreign.clone()]);
        for (name, token, prefix) in [
            ("expired", &expired, "time."),
            ("for Graph", &other, "aud."),
            ("altered", &altered, "sig."),
            ("foreign", &foreign, "iss."),
        ] {
            let (mut client, heard) = self.open("", token, self.terminal.muted()).await?;
            let end = client.hear().await?;
            self.refused += 1;
            let (code, sentence) = self.reason(prefix).await?;
            self.terminal.fact(name, &format!("{code}: {sentence}"))?;
            let refused = heard.is(REFUSED) && end == Heard::Closed;
            self.terminal.hold(
                &format!("a token that is {name} is refused"),
                refused,
                || format!("{}, {}", heard.shown(), end.shown()),
            )?;
        }
        self.terminal.check(
            &format!("each of them saw {REFUSED} and the end of the connection"),
            true,
            String::new,
        )
    }

    /// A session ends with its token, in a way after which clients come back with a fresh one.
    pub(super) async fn short_token(&mut self) -> anyhow::Result<()> {
        self.step(&format!(
            "a token ends in use: bob comes with one that lives for {SHORT_SECS} s"
        ))?;
        let request = TokenRequest::of("bob").lifetime(Duration::from_secs(SHORT_SECS));
        let token = self.token(&request)?;
        let begun = Instant::now();
        let seconds = || begun.elapsed().as_secs_f64();
        let (mut client, admitted) = self.open("bob", &token, self.terminal).await?;
        let notice = client.hear().await?;
        let noticed = seconds();
        let end = client.hear().await?;
        let ended = seconds();
        let fresh = self.token(&TokenRequest::of("bob"))?;
        let (again, readmitted) = self.open("bob", &fresh, self.terminal).await?;
        drop(again);
        let life = Duration::from_secs(SHORT_SECS).as_secs_f64();
        self.terminal.check(
            &format!(
                "told at {noticed:.1} s to reconnect, cut at {ended:.1} s, back with a fresh token; no error in between"
            ),
            admitted.is("PONG")
                && notice.is_notice()
                && end == Heard::Closed
                && readmitted.is("PONG")
                && noticed <= ended
                && (ended - life).abs() < CLOSE_TO,
            || {
                let all = [&admitted, &notice, &end, &readmitted].map(Heard::shown);
                format!("{} at {noticed:.1} s and {ended:.1} s", all.join(", "))
            },
        )
    }

    /// Groups that the token does not list are looked up, exactly those that roles are bound to.
    pub(super) async fn too_many_groups(&mut self) -> anyhow::Result<()> {
        self.step("omar is in 250 groups, so his token lists none of them; natsentry asks Microsoft Graph")?;
        let before = self.stage.idp.seen().len();
        let omar = self
            .introduce("omar", "maintenance", &["oid", "groups", "_claim_names"])
            .await?;
        drop(omar);
        let seen = self.stage.idp.seen();
        let asked: Vec<&Seen> = seen
            .iter()
            .skip(before)
            .filter(|seen| seen.endpoint == Endpoint::Graph && seen.path.contains("MemberGroups"))
            .collect();
        for request in &asked {
            let shown = format!("{} {} {}", request.method, request.path, request.status);
            self.terminal.fact("graph", &shown)?;
        }
        self.terminal.check(
            "one question to Graph, about the one group that a role is bound to; the address in the token is never followed",
            matches!(asked.as_slice(), [one] if one.status == 200 && one.path.ends_with("/checkMemberGroups")),
            || format!("{} requests", asked.len()),
        )
    }

    /// Would it be admitted? Asked before anybody connects.
    pub(super) async fn inspect(&mut self) -> anyhow::Result<()> {
        self.step("natsentry token inspect: mallory's token, before she connects with it")?;
        let token = self.token(&TokenRequest::of("mallory"))?;
        let (status, said) = self.command(&["token", "inspect"], &token).await?;
        for line in said.lines().take(3) {
            self.terminal.evidence(line)?;
        }
        let (_, logged) = self.reason("authz.norule").await?;
        self.terminal.check(
            "the verdict, and the very sentence that the log had when she tried",
            status == Some(1)
                && said.starts_with("refused: authz.norule\n")
                && said.contains(&logged),
            || said.clone(),
        )
    }

    /// Code and sentence of the newest refusal, which has to have a code that begins like this.
    async fn reason(&self, prefix: &str) -> anyhow::Result<(String, String)> {
        let wanted = self.refused;
        let line = self
            .audited(&format!("refusal number {wanted}, {prefix}"), |line| {
                text(line, "event") == "refused" && text(line, "reason").starts_with(prefix)
            })
            .await?;
        let (code, sentence) = (text(&line, "reason"), text(&line, "detail"));
        let logged = self.stage.log().contains(sentence);
        anyhow::ensure!(logged, "the log has nothing of \"{sentence}\"");
        Ok((code.to_owned(), sentence.to_owned()))
    }
}

/// The token with another role in it, and the signature it had.
fn promote(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let decoded = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let Value::Object(mut claims) = serde_json::from_slice(&decoded).ok()? else {
        return None;
    };
    let Value::Object(change) = json!({ "roles": ["Nats.Operator"] }) else {
        return None;
    };
    patch(&mut claims, &change);
    let payload = URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string());
    Some(format!("{header}.{payload}.{signature}"))
}
