//! What the clients find on the server: one role's worth of streams, buckets and consumers, and as much again that the
//! role does not reach.

use async_nats::jetstream::{consumer, new as new_context, object_store, stream};
use serde_json::{Value, json};

use crate::rust_client::credentials;
use crate::servers::Server;

/// What the role may publish to, as nats-server's own permissions say it. The proxy's policy says it with `stream`, `kv`
/// and `object`, so that the matrix shows what those words grant to be enough.
pub const PUBLISH: &[&str] = &[
    "app.>",
    "$SRV.>",
    "orders.eu.>",
    "$KV.config.>",
    "$O.files.>",
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.INFO.ORDERS",
    "$JS.API.STREAM.INFO.KV_config",
    "$JS.API.STREAM.INFO.OBJ_files",
    "$JS.API.STREAM.MSG.GET.KV_config",
    "$JS.API.STREAM.MSG.GET.OBJ_files",
    "$JS.API.STREAM.PURGE.OBJ_files",
    "$JS.API.DIRECT.GET.KV_config.>",
    "$JS.API.DIRECT.GET.OBJ_files.>",
    "$JS.API.CONSUMER.*.ORDERS",
    "$JS.API.CONSUMER.*.ORDERS.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.>",
    "$JS.API.CONSUMER.MSG.NEXT.ORDERS.>",
    "$JS.API.CONSUMER.*.KV_config",
    "$JS.API.CONSUMER.*.KV_config.>",
    "$JS.API.CONSUMER.*.OBJ_files",
    "$JS.API.CONSUMER.*.OBJ_files.>",
    "$JS.API.CONSUMER.MSG.NEXT.KV_config.>",
    "$JS.API.CONSUMER.MSG.NEXT.OBJ_files.>",
    "$JS.ACK.ORDERS.>",
    "$JS.ACK.*.*.ORDERS.>",
    "$JS.FC.>",
];

/// What the role may subscribe to, inboxes aside.
pub const SUBSCRIBE: &[&str] = &["app.>", "$SRV.>"];

/// Inboxes: a server grants everybody's or none.
const INBOX: &str = "_INBOX.>";

/// The operations of a permitted run, in order.
pub const PERMITTED: &[&str] = &[
    "connect",
    "publish_subscribe",
    "wildcards",
    "large_payload",
    "flush_rtt",
    "queue_group",
    "request_reply",
    "headers",
    "no_responders",
    "jetstream_publish",
    "pull_consumer",
    "push_consumer",
    "ordered_consumer",
    "kv_put_get",
    "kv_watch",
    "object_put_get",
    "service",
    "reconnect",
    "drain",
];

/// The operations of a run that shows a way to connect, in order.
pub const BRIEF: &[&str] = &["connect", "publish_subscribe", "drain"];

/// The operations of an expiring run, in order.
pub const EXPIRING: &[&str] = &["connect", "publish_subscribe", "reconnect", "drain"];

/// Who of the development identity provider's directory has the role.
pub const WHO: &str = "alice";

/// The operations of a refused run, in order, with the server's text: exactly, or where libraries ask different
/// questions on the way, how it starts and what it contains.
pub const REFUSED: &[(&str, Expected)] = &[
    ("connect", Expected::Nothing),
    (
        "publish",
        exactly(r#"Permissions Violation for Publish to "secret.plan""#),
    ),
    (
        "headers",
        exactly(r#"Permissions Violation for Publish to "secret.headers""#),
    ),
    (
        "subscribe",
        exactly(r#"Permissions Violation for Subscription to "secret.>""#),
    ),
    (
        "queue_group",
        exactly(r#"Permissions Violation for Subscription to "secret.work" using queue "crew""#),
    ),
    (
        "request_reply",
        exactly(r#"Permissions Violation for Publish to "secret.ask""#),
    ),
    (
        "jetstream_publish",
        exactly(r#"Permissions Violation for Publish to "payroll.june""#),
    ),
    ("pull_consumer", asking("CONSUMER.", "PAYROLL.clerk")),
    ("consumer_create", asking("CONSUMER.", "PAYROLL.thief")),
    ("ordered_consumer", asking("", "PAYROLL")),
    ("kv", asking("STREAM.", "KV_vault")),
    ("object", asking("STREAM.", "OBJ_archive")),
    (
        "stream_delete",
        exactly(r#"Permissions Violation for Publish to "$JS.API.STREAM.DELETE.ORDERS""#),
    ),
    ("alive", Expected::Nothing),
    ("same_session", Expected::Nothing),
];

/// What has to stand in the detail of an operation that was refused.
pub enum Expected {
    /// It is no refusal.
    Nothing,
    /// This text.
    Text(&'static str),
    /// A publish violation for a subject below `$JS.API.` that starts so, and contains so.
    Api {
        start: &'static str,
        contains: &'static str,
    },
}

const fn exactly(text: &'static str) -> Expected {
    Expected::Text(text)
}

const fn asking(start: &'static str, contains: &'static str) -> Expected {
    Expected::Api { start, contains }
}

impl Expected {
    /// Whether `detail` shows it. `folded` for libraries that show it in lower case.
    pub fn is_shown_by(&self, detail: &str, folded: bool) -> bool {
        let fold = |text: &str| {
            if folded {
                text.to_lowercase()
            } else {
                text.to_owned()
            }
        };
        let detail = fold(detail);
        match self {
            Self::Nothing => true,
            // The closing quote belongs to the text, so that nothing may follow inside it.
            Self::Text(text) => detail.contains(&fold(text)),
            Self::Api { start, contains } => {
                let opening = fold(r#"Permissions Violation for Publish to "$JS.API."#);
                let subject = detail
                    .split_once(&opening)
                    .and_then(|(_, rest)| rest.split_once('"'));
                subject.is_some_and(|(subject, _)| {
                    subject.starts_with(&fold(start)) && subject.contains(&fold(contains))
                })
            }
        }
    }
}

/// How long a client may take to present itself: machines that test many things at once are slow.
const PATIENCE_SECS: u32 = 30;

/// A server configuration with this estate's users: `admin`, who may everything, and `app`, who has the role.
pub fn role_config(server: Server, password: &str) -> String {
    let list = |subjects: &[&str]| serde_json::to_string(subjects).expect("strings");
    let publish = list(PUBLISH);
    let subscribe = list(&[SUBSCRIBE, &[INBOX]].concat());
    let responses = if server.has_responses() {
        "allow_responses: {max: 1, expires: \"1m\"}"
    } else {
        ""
    };
    format!(
        "{}\nauthorization {{ timeout: {PATIENCE_SECS}, users: [\n{{user: admin, password: {password:?}}}\n\
         {{user: app, password: {password:?}, permissions: {{publish: {{allow: {publish}}}, \
         subscribe: {{allow: {subscribe}}}\n{responses}}}}}\n] }}\n",
        jetstream(server)
    )
}

/// A server configuration that lets its clients go soon after a lame duck signal.
pub fn lame_duck_config(server: Server, password: &str) -> String {
    // The shortest time there is; a single client is told to go when the grace period is over.
    let grace = if server.has_jetstream() {
        "lame_duck_grace_period: \"500ms\"\n"
    } else {
        ""
    };
    format!(
        "{}lame_duck_duration: \"30s\"\n{grace}",
        role_config(server, password)
    )
}

fn jetstream(server: Server) -> &'static str {
    if server.has_jetstream() {
        "jetstream: {}"
    } else {
        ""
    }
}

/// A proxy configuration that gives [`WHO`] the role on the server at `upstream`, whose administrator's password is in
/// the environment variable `ESTATE_PASSWORD`.
pub fn proxy_config(issuer: &Value, upstream: &str) -> Value {
    json!({
        "version": 1,
        "listen": { "client": "127.0.0.1:0" },
        "limits": { "handshake": format!("{PATIENCE_SECS}s") },
        "issuers": [issuer],
        "upstreams": {
            "estate": {
                "servers": [upstream],
                "auth": { "user": "admin", "password": "env:ESTATE_PASSWORD" },
            },
        },
        "roles": {
            "tester": {
                "bind": [{ "app_role": "Nats.Operator" }],
                "upstream": "estate",
                "publish": ["app.>", "$SRV.>", "orders.eu.>"],
                "request": ["$JS.API.STREAM.NAMES"],
                "subscribe": SUBSCRIBE,
                "respond": { "max": 1, "ttl": "1m" },
                "stream": { "ORDERS": { "read": true, "consumers": ["worker", "ephemeral"] } },
                "kv": { "config": { "read": true, "write": true } },
                "object": { "files": { "read": true, "write": true } },
            },
        },
    })
}

/// A server configuration where `token` opens everything.
pub fn token_config(server: Server, token: &str) -> String {
    format!(
        "{}\nauthorization {{ timeout: {PATIENCE_SECS}, token: {token:?} }}\n",
        jetstream(server)
    )
}

/// Makes the streams, consumers and buckets, as an administrator.
pub async fn furnish(server: Server, admin_url: &str) -> Result<(), async_nats::Error> {
    if !server.has_jetstream() {
        return Ok(());
    }
    let (options, url) = credentials(admin_url);
    let client = options.connect(url).await?;
    let js = new_context(client.clone());
    for (name, subjects) in [("ORDERS", "orders.>"), ("PAYROLL", "payroll.>")] {
        let subjects = vec![subjects.to_owned()];
        let name = name.to_owned();
        js.create_stream(stream::Config {
            name,
            subjects,
            ..Default::default()
        })
        .await?;
    }
    // The library makes consumers by an API that came with 2.9.
    if !server.has_stores() {
        client.drain().await?;
        return Ok(());
    }
    let clerk = consumer::pull::Config {
        durable_name: Some("clerk".to_owned()),
        ..Default::default()
    };
    js.create_consumer_on_stream(clerk, "PAYROLL").await?;
    for bucket in ["config", "vault"] {
        // The library's own `create_key_value` needs an account document that 2.9 servers do not send.
        let bucket = stream::Config {
            name: format!("KV_{bucket}"),
            subjects: vec![format!("$KV.{bucket}.>")],
            max_messages_per_subject: 5,
            discard: stream::DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..Default::default()
        };
        js.create_stream(bucket).await?;
    }
    for bucket in ["files", "archive"] {
        let bucket = bucket.to_owned();
        js.create_object_store(object_store::Config {
            bucket,
            ..Default::default()
        })
        .await?;
    }
    client.drain().await?;
    Ok(())
}
