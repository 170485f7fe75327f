//! Steps about what is left of it all: on the server behind, in the metrics, in the audit.

use std::process::Stdio;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::{Story, text};
use crate::demo::idp::TokenRequest;
use crate::demo::stage::{LOOK_AGAIN, PATIENCE, STATIC_USER};

/// Metric families worth a look after the story.
const TELLING: [&str; 8] = [
    "natsentry_role_sessions",
    "natsentry_sessions_opened_total",
    "natsentry_refusals_total",
    "natsentry_denials_total",
    "natsentry_deliveries_filtered_total",
    "natsentry_sessions_closed_total",
    "natsentry_messages_total",
    "natsentry_upstream_up",
];

/// Members of an audit line that are shown, in this order.
const SHOWN: [&str; 10] = [
    "event", "verdict", "name", "oid", "roles", "op", "subject", "rule", "reason", "blame",
];

impl Story<'_> {
    /// What nats-server knows of its clients.
    pub(super) async fn behind_the_proxy(&mut self) -> anyhow::Result<()> {
        self.step("what nats-server saw: its one account, and of the tokens nothing")?;
        let connz: Value = serde_json::from_str(&self.stage.get_from_nats("/connz?auth=1").await?)?;
        let connections = connz.get("connections").and_then(Value::as_array);
        let users: Vec<&str> = connections
            .into_iter()
            .flatten()
            .map(|connection| text(connection, "authorized_user"))
            .collect();
        let log = self.stage.nats.log();
        let connects: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("[CONNECT "))
            .collect();
        let own = format!("\"user\":\"{STATIC_USER}\"");
        // The first client of the story had no password, and went to nats-server itself.
        let anonymous = connects
            .iter()
            .filter(|line| !line.contains("\"user\":"))
            .count();
        let as_user = connects.iter().filter(|line| line.contains(&own)).count();
        self.terminal.fact(
            "connz",
            &format!("{} connections, users {users:?}", users.len()),
        )?;
        self.terminal
            .fact("trace", &format!("{as_user} CONNECTs with {own}"))?;
        self.terminal.check(
            "every connection through natsentry is the static user's",
            users.len() >= 3
                && users.iter().all(|user| *user == STATIC_USER)
                && as_user + anonymous == connects.len()
                && anonymous == 1,
            || format!("{users:?}; {connects:?}"),
        )?;
        let audit = std::fs::read_to_string(self.stage.audit_file())?;
        let places = [
            ("nats-server's trace", log),
            ("our log", self.stage.log()),
            ("the audit", audit),
        ];
        let found = places.iter().find(|(_, written)| {
            let parts = self
                .tokens
                .iter()
                .flat_map(|token| token.split('.').skip(1));
            parts.into_iter().any(|part| written.contains(part))
        });
        self.terminal.check(
            &format!(
                "none of the {} tokens is in nats-server's trace, in our log or in the audit",
                self.tokens.len()
            ),
            found.is_none(),
            || {
                found
                    .map(|(place, _)| (*place).to_owned())
                    .unwrap_or_default()
            },
        )
    }

    /// What Prometheus scrapes.
    pub(super) async fn metrics(&mut self) -> anyhow::Result<()> {
        self.step("what Prometheus scrapes")?;
        let until = Instant::now() + PATIENCE;
        // A session is counted as gone a moment after its client has seen the end.
        let (page, denied, refused) = loop {
            let page = self.stage.get("/metrics").await?;
            let denied = sum(&page, "natsentry_denials_total");
            let refused = sum(&page, "natsentry_refusals_total");
            let live = sum(&page, "natsentry_sessions");
            if (denied, refused, live) == (self.denied, self.refused, 3) || Instant::now() > until {
                break (page, denied, refused);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        for sample in page.lines().filter(|line| is_telling(line)) {
            self.terminal.evidence(sample)?;
        }
        self.terminal.check(
            &format!(
                "{} denials, the delivery kept from bob among them, and {} refusals: as many as the clients counted",
                self.denied, self.refused
            ),
            (denied, refused) == (self.denied, self.refused),
            || format!("{denied} and {refused}"),
        )
    }

    /// What auditors read, and the line of the policy behind one denial.
    pub(super) async fn audit(&mut self) -> anyhow::Result<()> {
        self.step("what auditors read: one JSON object a line, chained by hash (some members left out here)")?;
        let denial = self
            .audited("bob's subscription", |line| {
                text(line, "event") == "denied" && text(line, "subject") == "orders.internal.>"
            })
            .await?;
        let lines = self.audit_lines()?;
        let first = |event: &str, reason: &str| {
            let found = lines
                .iter()
                .find(|line| text(line, "event") == event && text(line, "reason") == reason);
            found.with_context(|| format!("the audit has no line {event} {reason}"))
        };
        for line in [
            first("connected", "")?,
            &denial,
            first("refused", "authz.norule")?,
            first("closed", "expired")?,
        ] {
            self.terminal.evidence(&brief(line))?;
        }
        let count = |event: &str| {
            lines
                .iter()
                .filter(|line| text(line, "event") == event)
                .count()
        };
        let (denied, refused) = (count("denied"), count("refused"));
        self.terminal.check(
            "the audit and the metrics agree to the last denial",
            u64::try_from(denied).ok() == Some(self.denied)
                && u64::try_from(refused).ok() == Some(self.refused),
            || format!("{denied} lines of denials, {refused} of refusals"),
        )
    }

    /// Exit status and output of another command of this program, with a token on its standard input.
    pub(super) async fn command(
        &self,
        arguments: &[&str],
        token: &str,
    ) -> anyhow::Result<(Option<i32>, String)> {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.stage.config_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut running = command
            .spawn()
            .context("this program cannot be run once more")?;
        if let Some(mut input) = running.stdin.take() {
            input.write_all(token.as_bytes()).await?;
        }
        let ended = timeout(PATIENCE, running.wait_with_output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            ended.status.code(),
            text(&ended.stdout) + &text(&ended.stderr),
        ))
    }

    /// From a denial to the line of the file, by the command that people use for it.
    pub(super) async fn explain(&mut self) -> anyhow::Result<()> {
        self.step("why was bob denied? natsentry explain, with bob's token on standard input")?;
        let token = self.token(&TokenRequest::of("bob"))?;
        let arguments = [
            "explain",
            "--token-stdin",
            "--subscribe",
            "orders.internal.>",
        ];
        let (status, said) = self.command(&arguments, &token).await?;
        // The folder is known from above, and long.
        let folder = format!("{}/", self.stage.folder.path().display());
        for line in said.lines() {
            self.terminal.evidence(&line.replace(&folder, ""))?;
        }
        let file = std::fs::read_to_string(self.stage.config_file())?;
        let rule = "roles.reader.deny.subscribe[0]";
        let line = self
            .stage
            .config
            .source
            .position(rule)
            .map_or(0, |at| at.line);
        let text = line
            .checked_sub(1)
            .and_then(|index| file.lines().nth(index));
        let text = text.unwrap_or_default().trim();
        self.terminal
            .evidence(&format!("line {line} says  {text}"))?;
        self.terminal.check(
            "it is denied, and the line of the file that decided is named",
            status == Some(1)
                && said.contains(&format!("natsentry.yaml:{line}"))
                && text.contains("orders.internal.>"),
            || format!("{status:?}: {said}"),
        )
    }
}

/// A sample of a telling family that is not zero.
fn is_telling(line: &str) -> bool {
    let family = line.split(['{', ' ']).next().unwrap_or_default();
    TELLING.contains(&family) && !line.ends_with(" 0")
}

/// The sum of a family's samples.
fn sum(page: &str, family: &str) -> u64 {
    let samples = page
        .lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(family));
    samples
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// The members of an audit line that say most.
fn brief(line: &Value) -> String {
    let kept: Vec<String> = SHOWN
        .iter()
        .filter_map(|name| Some(format!("\"{name}\":{}", line.get(*name)?)))
        .collect();
    format!("{{…{}…}}", kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE natsentry_denials_total counter\n\
        natsentry_denials_total{op=\"publish\",reason=\"denied\"} 2\n\
        natsentry_denials_total{op=\"publish\",reason=\"not_granted\"} 3\n\
        natsentry_denials_total_x 9\nnatsentry_messages_total 0\n";

    #[test]
    fn a_family_is_summed_without_its_namesakes() {
        assert_eq!(sum(PAGE, "natsentry_denials_total"), 5);
        assert_eq!(sum(PAGE, "natsentry_denials"), 0);
    }

    #[test]
    fn samples_of_zero_tell_nothing() {
        assert_eq!(PAGE.lines().filter(|line| is_telling(line)).count(), 2);
    }
}
