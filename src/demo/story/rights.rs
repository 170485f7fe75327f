//! Steps about what each identity may do, and how a denial looks to the client.

use anyhow::Context as _;
use tokio::time::Instant;

use super::{Cast, REFUSED, Story};
use crate::demo::client::{Client, Heard, Proof};
use crate::demo::stage::STATIC_USER;

/// A bucket as clients make it, with direct reads.
const BUCKET: &str = r#"{"name":"KV_setpoints","subjects":["$KV.setpoints.>"],"max_msgs_per_subject":1,"allow_direct":true,"allow_rollup_hdrs":true,"deny_delete":true,"discard":"new","storage":"memory"}"#;

/// Longest time that counts as "at once", in milliseconds; clients wait seconds for an answer that does not come.
const AT_ONCE_MS: u128 = 500;

impl Story<'_> {
    /// What there was before: one account, for everybody and everything.
    pub(super) async fn one_password(&mut self) -> anyhow::Result<()> {
        self.step(
            "before: the server knows one account, and whoever has its password may do everything",
        )?;
        let address = self.stage.nats.address();
        let mut nobody = Client::open(self.terminal, "somebody", address).await?;
        let refused = nobody.connect(Proof::Nothing).await?;
        let mut legacy = Client::open(self.terminal, STATIC_USER, address).await?;
        let admitted = legacy
            .connect(Proof::Password(STATIC_USER, &self.stage.password))
            .await?;
        let inbox = inbox_of("legacy");
        legacy.mute();
        legacy.open_inbox(&inbox).await?;
        legacy
            .publish("$JS.API.STREAM.CREATE.KV_setpoints", Some(&inbox), BUCKET)
            .await?;
        let made = legacy.hear().await?;
        self.terminal.check(
            "straight at nats-server: without it no way in, with it even streams and buckets can be made",
            refused.is(REFUSED)
                && admitted.is("PONG")
                && matches!(&made, Heard::Message { payload, .. } if payload.contains("\"config\":")),
            || format!("{}, {}, {}", refused.shown(), admitted.shown(), made.shown()),
        )
    }

    /// Three identities, and the first message between them.
    pub(super) async fn introductions(&mut self) -> anyhow::Result<Cast> {
        self.step("alice connects to natsentry: her Entra token is in the place of the password")?;
        let mut alice = self
            .introduce("alice", "operator", &["oid", "roles", "exp"])
            .await?;

        self.step("bob is a reader: he hears orders, and cannot place one")?;
        let mut bob = self.introduce("bob", "reader", &["oid", "roles"]).await?;
        bob.subscribe("orders.>", 1).await?;
        bob.settle().await?;
        alice.publish("orders.new", None, "{\"qty\":120}").await?;
        let heard = bob.hear().await?;
        bob.publish("orders.new", None, "fake").await?;
        let denied = bob.hear().await?;
        // Had it gone through, bob would hear himself.
        let more = bob.settle().await?;
        self.denied += 1;
        self.terminal.check(
            "alice's order arrives; bob's never reached nats-server, and he stays connected",
            is_message(&heard, "orders.new", "{\"qty\":120}")
                && denied.is("-ERR 'Permissions Violation for Publish to \"orders.new\"'")
                && more.is_empty(),
            || format!("{}, {}, then {more:?}", heard.shown(), denied.shown()),
        )?;

        self.step("the gateway is an application with a managed identity; it may write its own branch only")?;
        let mut gateway = self
            .introduce("gateway", "gateway", &["oid", "roles", "idtyp"])
            .await?;
        self.own_branch(&mut alice, &mut gateway).await?;
        Ok(Cast {
            alice,
            bob,
            gateway,
        })
    }

    /// A template, and another's branch.
    async fn own_branch(&mut self, alice: &mut Client, gateway: &mut Client) -> anyhow::Result<()> {
        let people = &self.stage.idp.directory().applications;
        let oid_of = |name: &str| {
            let found = people.iter().find(|application| application.name == name);
            found
                .map(|application| application.oid.clone())
                .context("the directory has both")
        };
        let own = format!("telemetry.{}.temp", oid_of("gateway")?);
        let others = format!("telemetry.{}.temp", oid_of("historian")?);
        alice.subscribe("telemetry.>", 1).await?;
        alice.settle().await?;
        gateway.publish(&own, None, "21.5").await?;
        let heard = alice.hear().await?;
        gateway.publish(&others, None, "99.9").await?;
        let denied = gateway.hear().await?;
        gateway.settle().await?;
        let more = alice.settle().await?;
        self.denied += 1;
        self.terminal.check(
            "telemetry.{oid}.> means the oid of the token: nobody writes in another's name",
            is_message(&heard, &own, "21.5")
                && denied.is(&format!(
                    "-ERR 'Permissions Violation for Publish to \"{others}\"'"
                ))
                && more.is_empty(),
            || format!("{}, {}, then {more:?}", heard.shown(), denied.shown()),
        )
    }

    /// A deny below a wildcard that was granted.
    pub(super) async fn wildcard_with_a_deny(&mut self, cast: &mut Cast) -> anyhow::Result<()> {
        let Cast { alice, bob, .. } = cast;
        self.step(
            "a deny holds below a wildcard too: bob listens on orders.>, without orders.internal.>",
        )?;
        alice.publish("orders.internal.margin", None, "31%").await?;
        alice.publish("orders.eu", None, "{\"qty\":8}").await?;
        alice.settle().await?;
        let heard = bob.hear().await?;
        let more = bob.settle().await?;
        bob.subscribe("orders.internal.>", 3).await?;
        let denied = bob.hear().await?;
        // The delivery that was kept back, and the subscription.
        self.denied += 2;
        self.terminal.check(
            "the internal message was kept from bob, and he cannot ask for it",
            is_message(&heard, "orders.eu", "{\"qty\":8}")
                && more.is_empty()
                && denied
                    .is("-ERR 'Permissions Violation for Subscription to \"orders.internal.>\"'"),
            || format!("{}, then {more:?}, {}", heard.shown(), denied.shown()),
        )
    }

    /// A denied request fails at once.
    pub(super) async fn denied_request(&mut self, cast: &mut Cast) -> anyhow::Result<()> {
        let bob = &mut cast.bob;
        self.step("a denied request fails at once, not after a timeout")?;
        let inbox = inbox_of("bob");
        bob.open_inbox(&inbox).await?;
        bob.settle().await?;
        let asked = Instant::now();
        bob.publish("cmd.restart", Some(&inbox), "").await?;
        let (first, second) = (bob.hear().await?, bob.hear().await?);
        let waited = asked.elapsed().as_millis();
        self.denied += 1;
        let answers = [&first, &second];
        let told = answers
            .iter()
            .any(|heard| heard.is("-ERR 'Permissions Violation for Publish to \"cmd.restart\"'"));
        let answered = answers.iter().any(
            |heard| matches!(heard, Heard::Message { subject, status, .. } if *subject == inbox && status == "NATS/1.0 503"),
        );
        self.terminal.check(
            &format!("503, which libraries report as \"no responders\", came after {waited} ms"),
            told && answered && waited < AT_ONCE_MS,
            || format!("{} and {} after {waited} ms", first.shown(), second.shown()),
        )
    }

    /// Key-value buckets by their name instead of by JetStream's subjects.
    pub(super) async fn bucket(&mut self, cast: &mut Cast) -> anyhow::Result<()> {
        let Cast { alice, bob, .. } = cast;
        if !has_direct_get(&self.stage.found.version) {
            return Ok(());
        }
        self.step(
            "roles name JetStream buckets, not subjects: alice writes setpoints, bob reads them",
        )?;
        let inbox = inbox_of("alice");
        alice.open_inbox(&inbox).await?;
        alice
            .publish("$KV.setpoints.line1", Some(&inbox), "42")
            .await?;
        let stored = alice.hear().await?;
        let get = "$JS.API.DIRECT.GET.KV_setpoints.$KV.setpoints.line1";
        bob.publish(get, Some(&inbox_of("bob")), "").await?;
        let read = bob.hear().await?;
        bob.publish("$KV.setpoints.line1", None, "666").await?;
        let denied = bob.hear().await?;
        let more = bob.settle().await?;
        self.denied += 1;
        self.terminal.check(
            "the value is stored and read; bob's own value is not",
            matches!(&stored, Heard::Message { payload, .. } if payload.contains("\"stream\":\"KV_setpoints\""))
                && matches!(&read, Heard::Message { payload, .. } if payload == "42")
                && denied.is("-ERR 'Permissions Violation for Publish to \"$KV.setpoints.line1\"'")
                && more.is_empty(),
            || format!("{}, {}, {}, then {more:?}", stored.shown(), read.shown(), denied.shown()),
        )
    }
}

fn is_message(heard: &Heard, wanted: &str, text: &str) -> bool {
    matches!(heard, Heard::Message { subject, payload, .. } if subject == wanted && payload == text)
}

/// An inbox in the form that the official clients make.
fn inbox_of(name: &str) -> String {
    format!("_INBOX.demo{name:X<18}.1")
}

/// Direct reads came with 2.9.
fn has_direct_get(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (2, 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_token_is_long_enough_to_be_private() {
        assert_eq!(inbox_of("bob"), "_INBOX.demobobXXXXXXXXXXXXXXX.1");
    }

    #[test]
    fn direct_reads_are_asked_of_servers_that_have_them() {
        assert!(has_direct_get("2.9.10") && has_direct_get("2.15.1"));
        assert!(!has_direct_get("2.8.4") && !has_direct_get("dev"));
    }
}
