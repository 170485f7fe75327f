//! Every operation of the client matrix with async-nats, in this process.

use std::future::Future;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull, push};
use async_nats::jetstream::{self, kv};
use async_nats::service::ServiceExt as _;
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, HeaderMap, RequestErrorKind};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::driver::{Mode, Place};
use crate::program::Said;
use crate::report::Line;
use crate::support::tokens;

const BRIEF: Duration = Duration::from_secs(1);

type Outcome = Result<String, async_nats::Error>;

/// Runs to the end, blocking.
pub fn run(place: Place, mode: Mode, said: Sender<Said>) {
    let patience = place.patience;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let notes = Arc::new(Notes::default());
        let connected = timeout(patience, connect(&place, &notes)).await;
        let teller = Teller {
            said,
            notes,
            patience,
        };
        match connected {
            Ok(Ok(client)) => {
                let server = client.server_info().version;
                teller.say("connect", true, format!("server {server}"));
                match mode {
                    Mode::Permitted => permitted(&client, &teller).await,
                    Mode::Refused => refused(&client, &teller).await,
                    Mode::Expiring | Mode::LameDuck => expiring(&client, &teller).await,
                    Mode::Password | Mode::Tls => brief(&client, &teller).await,
                }
            }
            Ok(Err(error)) => teller.say("connect", false, error.to_string()),
            Err(_) => teller.say("connect", false, "took too long".to_owned()),
        }
    });
}

/// What the event callback heard.
#[derive(Default)]
struct Notes {
    errors: Mutex<Vec<String>>,
    counts: watch::Sender<Counts>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    connected: u32,
    disconnected: u32,
    closed: u32,
}

impl Notes {
    fn note(&self, event: Event) {
        match event {
            Event::ServerError(error) => self.errors().push(error.to_string()),
            Event::Connected => self.counts.send_modify(|counts| counts.connected += 1),
            Event::Disconnected => self.counts.send_modify(|counts| counts.disconnected += 1),
            Event::Closed => self.counts.send_modify(|counts| counts.closed += 1),
            _ => {}
        }
    }

    fn errors(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait(&self, reached: impl FnMut(&Counts) -> bool) {
        self.counts
            .subscribe()
            .wait_for(reached)
            .await
            .expect("the sender is in self");
    }
}

async fn connect(place: &Place, notes: &Arc<Notes>) -> Result<Client, async_nats::ConnectError> {
    let (options, url) = credentials(&place.url);
    let options = match place.token_url.clone() {
        None => options,
        Some(token_url) => ConnectOptions::with_auth_callback(move |_nonce| {
            let token_url = token_url.clone();
            async move {
                let fetched = tokio::task::spawn_blocking(move || tokens::fetch(&token_url)).await;
                let mut auth = Auth::new();
                auth.token = Some(fetched.map_err(AuthError::new)?.map_err(AuthError::new)?);
                Ok(auth)
            }
        }),
    };
    let options = match &place.ca {
        Some(ca) => options.add_root_certificates(ca.clone()).require_tls(true),
        None => options,
    };
    let notes = Arc::clone(notes);
    let noted = move |event| {
        notes.note(event);
        std::future::ready(())
    };
    options
        .name("natsentry async-nats")
        .event_callback(noted)
        .reconnect_delay_callback(|_| Duration::from_millis(200))
        .connect(url)
        .await
}

/// The library takes no credentials from the URL: `user:password@` or `token@` is cut off and put into the options.
pub fn credentials(url: &str) -> (ConnectOptions, String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let Some((credentials, address)) = rest.split_once('@') else {
        return (ConnectOptions::new(), url.to_owned());
    };
    let options = match credentials.split_once(':') {
        Some((user, password)) => {
            ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        }
        None => ConnectOptions::with_token(credentials.to_owned()),
    };
    (options, format!("{scheme}://{address}"))
}

struct Teller {
    said: Sender<Said>,
    patience: Duration,
    notes: Arc<Notes>,
}

impl Teller {
    fn say(&self, op: &str, ok: bool, detail: String) {
        self.said
            .send(Said::Line(Line {
                op: op.to_owned(),
                ok,
                detail,
            }))
            .ok();
    }

    async fn step(&self, op: &str, work: impl Future<Output = Outcome>) {
        match timeout(self.patience, work).await {
            Ok(Ok(detail)) => self.say(op, true, detail),
            Ok(Err(error)) => {
                self.say(
                    op,
                    false,
                    format!("{error}; asynchronous: {:?}", self.notes.errors()),
                );
            }
            Err(_) => {
                self.say(
                    op,
                    false,
                    format!("too long; asynchronous: {:?}", self.notes.errors()),
                );
            }
        }
    }

    /// The call may fail or not; the violation comes as an event, and says the subject: a call before may have been
    /// repeated by the library, so that its own comes late.
    async fn refuse(&self, op: &str, subject: &str, call: impl Future<Output = Outcome>) {
        let before = self.notes.errors().len();
        let outcome = match timeout(BRIEF, call).await {
            Ok(Ok(_)) => "returned".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "took too long".to_owned(),
        };
        let violation = async {
            loop {
                let errors = self
                    .notes
                    .errors()
                    .get(before..)
                    .unwrap_or_default()
                    .to_vec();
                if let Some(text) = errors
                    .iter()
                    .find(|text| text.contains("Permissions Violation") && text.contains(subject))
                {
                    return text.clone();
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(self.patience, violation).await {
            Ok(text) => self.say(op, true, format!("{text} | {outcome}")),
            Err(_) => self.say(
                op,
                false,
                format!("no violation arrived; the call: {outcome}"),
            ),
        }
    }
}

fn wrong(detail: impl std::fmt::Debug) -> async_nats::Error {
    format!("not as expected: {detail:?}").into()
}

fn ensure(condition: bool, detail: impl std::fmt::Debug) -> Result<(), async_nats::Error> {
    if condition {
        Ok(())
    } else {
        Err(wrong(detail))
    }
}

async fn permitted(client: &Client, teller: &Teller) {
    teller
        .step("publish_subscribe", publish_subscribe(client))
        .await;
    teller.step("wildcards", wildcards(client)).await;
    teller.step("large_payload", large_payload(client)).await;
    teller.step("flush_rtt", flush_rtt(client)).await;
    teller.step("queue_group", queue_group(client)).await;
    teller.step("request_reply", request_reply(client)).await;
    teller.step("headers", headers(client)).await;
    teller.step("no_responders", no_responders(client)).await;
    let mut js = jetstream::new(client.clone());
    js.set_timeout(teller.patience);
    teller
        .step("jetstream_publish", jetstream_publish(&js))
        .await;
    teller.step("pull_consumer", pull_consumer(&js)).await;
    teller
        .step("push_consumer", push_consumer(client, &js))
        .await;
    teller.step("ordered_consumer", ordered_consumer(&js)).await;
    teller.step("kv_put_get", kv_put_get(&js)).await;
    teller.step("kv_watch", kv_watch(&js)).await;
    teller.step("object_put_get", object_put_get(&js)).await;
    teller.step("service", service(client)).await;
    teller.step("reconnect", reconnect(client, teller)).await;
    teller.step("drain", drain(client, &teller.notes)).await;
}

async fn expiring(client: &Client, teller: &Teller) {
    teller
        .step("publish_subscribe", publish_subscribe(client))
        .await;
    teller.step("reconnect", reconnect(client, teller)).await;
    teller.step("drain", drain(client, &teller.notes)).await;
}

async fn brief(client: &Client, teller: &Teller) {
    teller
        .step("publish_subscribe", publish_subscribe(client))
        .await;
    teller.step("drain", drain(client, &teller.notes)).await;
}

async fn publish_subscribe(client: &Client) -> Outcome {
    let mut sub = client.subscribe("app.events.*").await?;
    client.publish("app.events.one", "hello".into()).await?;
    let message = sub.next().await.ok_or_else(|| wrong("the end"))?;
    ensure(
        &*message.subject == "app.events.one" && message.payload == "hello",
        &message,
    )?;
    sub.unsubscribe().await?;
    Ok(String::new())
}

async fn wildcards(client: &Client) -> Outcome {
    let mut subs = Vec::new();
    for subject in ["app.wild.>", "app.*.card.*"] {
        subs.push(client.subscribe(subject).await?);
    }
    client.publish("app.wild.card.one", "joker".into()).await?;
    for mut sub in subs {
        let message = sub.next().await.ok_or_else(|| wrong("the end"))?;
        ensure(
            &*message.subject == "app.wild.card.one" && message.payload == "joker",
            &message,
        )?;
    }
    Ok(String::new())
}

async fn large_payload(client: &Client) -> Outcome {
    let mut sub = client.subscribe("app.large").await?;
    let data: Vec<u8> = (0..251).cycle().take(1_000_000).collect();
    client.publish("app.large", data.clone().into()).await?;
    let message = sub.next().await.ok_or_else(|| wrong("the end"))?;
    ensure(message.payload == data, message.payload.len())?;
    sub.unsubscribe().await?;
    Ok(format!("{} bytes", data.len()))
}

/// The library has no word for a round trip; a flush is one.
async fn flush_rtt(client: &Client) -> Outcome {
    client.flush().await?;
    Ok(String::new())
}

async fn queue_group(client: &Client) -> Outcome {
    let mut one = client
        .queue_subscribe("app.work", "crew".to_owned())
        .await?;
    let mut two = client
        .queue_subscribe("app.work", "crew".to_owned())
        .await?;
    client.flush().await?;
    for number in 0..100 {
        client
            .publish("app.work", number.to_string().into())
            .await?;
    }
    client.flush().await?;
    let (mut first, mut second) = (0, 0);
    while first + second < 100 {
        tokio::select! {
            Some(_) = one.next() => first += 1,
            Some(_) = two.next() => second += 1,
        }
    }
    ensure(first > 0 && second > 0, (first, second))?;
    one.unsubscribe().await?;
    two.unsubscribe().await?;
    Ok(format!("{first} and {second}"))
}

async fn request_reply(client: &Client) -> Outcome {
    let mut sub = client.subscribe("app.echo").await?;
    let answer = async {
        let request = sub.next().await.ok_or_else(|| wrong("the end"))?;
        let reply = request.reply.ok_or_else(|| wrong("no reply subject"))?;
        client
            .publish(reply, [b"re:", &request.payload[..]].concat().into())
            .await?;
        Ok::<_, async_nats::Error>(())
    };
    let ask = async { Ok(client.request("app.echo", "ping".into()).await?) };
    let ((), reply) = tokio::try_join!(answer, ask)?;
    ensure(reply.payload == "re:ping", &reply)?;
    sub.unsubscribe().await?;
    Ok(String::new())
}

async fn headers(client: &Client) -> Outcome {
    let mut sub = client.subscribe("app.headers").await?;
    let mut sent = HeaderMap::new();
    sent.insert("X-One", "1");
    sent.insert("X-Two", "zwei");
    client
        .publish_with_headers("app.headers", sent.clone(), "body".into())
        .await?;
    let message = sub.next().await.ok_or_else(|| wrong("the end"))?;
    ensure(
        message.payload == "body" && message.headers.as_ref() == Some(&sent),
        &message,
    )?;
    sub.unsubscribe().await?;
    Ok(String::new())
}

async fn no_responders(client: &Client) -> Outcome {
    match client.request("app.nobody", "?".into()).await {
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(String::new()),
        other => Err(wrong(other)),
    }
}

fn orders() -> Vec<String> {
    (0..10).map(|number| format!("order {number}")).collect()
}

async fn jetstream_publish(js: &jetstream::Context) -> Outcome {
    for (number, order) in orders().into_iter().enumerate() {
        let ack = js
            .publish(format!("orders.eu.{number}"), order.into())
            .await?
            .await?;
        ensure(
            ack.stream == "ORDERS" && ack.sequence == number as u64 + 1,
            &ack,
        )?;
    }
    Ok(String::new())
}

async fn pull_consumer(js: &jetstream::Context) -> Outcome {
    let config = pull::Config {
        durable_name: Some("worker".to_owned()),
        filter_subject: "orders.eu.>".to_owned(),
        ..Default::default()
    };
    let mut consumer = js.create_consumer_on_stream(config, "ORDERS").await?;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let mut batch = consumer.fetch().max_messages(5).messages().await?;
        while let Some(message) = batch.next().await {
            let message = message?;
            seen.push(String::from_utf8_lossy(&message.payload).into_owned());
            message.double_ack().await?;
        }
    }
    ensure(seen == orders(), &seen)?;
    ensure(
        consumer.info().await?.num_ack_pending == 0,
        "acknowledgements pending",
    )?;
    Ok(String::new())
}

async fn push_consumer(client: &Client, js: &jetstream::Context) -> Outcome {
    let config = push::Config {
        deliver_subject: client.new_inbox(),
        filter_subject: "orders.eu.>".to_owned(),
        ack_policy: AckPolicy::Explicit,
        ..Default::default()
    };
    let consumer = js.create_consumer_on_stream(config, "ORDERS").await?;
    let mut messages = consumer.messages().await?;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let message = messages.next().await.ok_or_else(|| wrong("the end"))??;
        seen.push(String::from_utf8_lossy(&message.payload).into_owned());
        message.double_ack().await?;
    }
    ensure(seen == orders(), &seen)?;
    Ok(String::new())
}

async fn ordered_consumer(js: &jetstream::Context) -> Outcome {
    let stream = js.get_stream("ORDERS").await?;
    let config = pull::OrderedConfig {
        filter_subject: "orders.eu.>".to_owned(),
        ..Default::default()
    };
    let consumer: Consumer<pull::OrderedConfig> = stream.create_consumer(config).await?;
    let messages = consumer.messages().await?.take(10);
    let payload =
        |message: jetstream::Message| String::from_utf8_lossy(&message.payload).into_owned();
    let seen: Vec<String> = messages.map_ok(payload).try_collect().await?;
    ensure(seen == orders(), &seen)?;
    Ok(String::new())
}

async fn kv_put_get(js: &jetstream::Context) -> Outcome {
    let store = js.get_key_value("config").await?;
    let revision = store.put("app.limit", "12".into()).await?;
    let entry = store
        .entry("app.limit")
        .await?
        .ok_or_else(|| wrong("no entry"))?;
    ensure(entry.value == "12" && entry.revision == revision, &entry)?;
    store.delete("app.limit").await?;
    Ok(String::new())
}

async fn kv_watch(js: &jetstream::Context) -> Outcome {
    let store = js.get_key_value("config").await?;
    let mut watch = store.watch("app.*").await?;
    store.put("app.watched", "yes".into()).await?;
    let entry: kv::Entry = watch.next().await.ok_or_else(|| wrong("the end"))??;
    ensure(entry.key == "app.watched" && entry.value == "yes", &entry)?;
    Ok(String::new())
}

async fn object_put_get(js: &jetstream::Context) -> Outcome {
    let store = js.get_object_store("files").await?;
    let data: Vec<u8> = (0..251).cycle().take(5 * 1024 * 1024).collect();
    store.put("big", &mut data.as_slice()).await?;
    let mut got = Vec::new();
    // The reader checks the digest at its end.
    store.get("big").await?.read_to_end(&mut got).await?;
    ensure(got == data, got.len())?;
    Ok(format!("{} bytes", got.len()))
}

async fn service(client: &Client) -> Outcome {
    let service = client.service_builder().start("echo", "1.0.0").await?;
    let mut endpoint = service.endpoint("app.service").await?;
    let answer = async {
        let request = endpoint.next().await.ok_or_else(|| wrong("the end"))?;
        let text = [b"re:", &request.message.payload[..]].concat();
        request.respond(Ok(text.into())).await?;
        Ok::<_, async_nats::Error>(())
    };
    let ask = async { Ok(client.request("app.service", "ping".into()).await?) };
    let ((), reply) = tokio::try_join!(answer, ask)?;
    ensure(reply.payload == "re:ping", &reply)?;
    let info = client.request("$SRV.INFO.echo", "".into()).await?;
    let info = String::from_utf8_lossy(&info.payload).into_owned();
    ensure(info.contains("\"app.service\""), info)?;
    service.stop().await?;
    Ok(String::new())
}

async fn reconnect(client: &Client, teller: &Teller) -> Outcome {
    let mut sub = client.subscribe("app.after.*").await?;
    client.flush().await?;
    let before = *teller.notes.counts.borrow();
    teller.said.send(Said::Ready)?;
    teller
        .notes
        .wait(|counts| counts.disconnected > before.disconnected)
        .await;
    teller
        .notes
        .wait(|counts| counts.connected > before.connected)
        .await;
    client.publish("app.after.reconnect", "back".into()).await?;
    let message = sub.next().await.ok_or_else(|| wrong("the end"))?;
    ensure(message.payload == "back", &message)?;
    sub.unsubscribe().await?;
    Ok(String::new())
}

async fn drain(client: &Client, notes: &Notes) -> Outcome {
    let sub = client.subscribe("app.drain").await?;
    for number in 0..20 {
        client
            .publish("app.drain", number.to_string().into())
            .await?;
    }
    // This library ends the connection as soon as it has read all that is there just now, whatever is still under way.
    let mut last = client.subscribe("app.drained").await?;
    client.publish("app.drained", "".into()).await?;
    last.next().await.ok_or("nothing came back")?;
    client.drain().await?;
    let seen = sub.count().await;
    ensure(seen == 20, seen)?;
    notes.wait(|counts| counts.closed > 0).await;
    Ok(String::new())
}

async fn refused(client: &Client, teller: &Teller) {
    let mut js = jetstream::new(client.clone());
    js.set_timeout(BRIEF);
    teller
        .refuse(
            "publish",
            "secret.plan",
            done(client.publish("secret.plan", "x".into())),
        )
        .await;
    let mut sent = HeaderMap::new();
    sent.insert("A", "b");
    let publish = client.publish_with_headers("secret.headers", sent, "x".into());
    teller
        .refuse("headers", "secret.headers", done(publish))
        .await;
    teller
        .refuse("subscribe", "secret.>", done(client.subscribe("secret.>")))
        .await;
    let subscribe = client.queue_subscribe("secret.work", "crew".to_owned());
    teller
        .refuse("queue_group", "secret.work", done(subscribe))
        .await;
    teller
        .refuse(
            "request_reply",
            "secret.ask",
            done(client.request("secret.ask", "?".into())),
        )
        .await;
    let publish =
        async { Ok::<_, async_nats::Error>(js.publish("payroll.june", "x".into()).await?.await?) };
    teller
        .refuse("jetstream_publish", "payroll.june", done(publish))
        .await;
    let clerk = js.get_consumer_from_stream::<pull::Config, _, _>("clerk", "PAYROLL");
    teller
        .refuse("pull_consumer", "PAYROLL.clerk", done(clerk))
        .await;
    let thief = pull::Config {
        durable_name: Some("thief".to_owned()),
        ..Default::default()
    };
    teller
        .refuse(
            "consumer_create",
            "PAYROLL.thief",
            done(js.create_consumer_on_stream(thief, "PAYROLL")),
        )
        .await;
    teller
        .refuse(
            "ordered_consumer",
            "PAYROLL",
            done(js.get_stream("PAYROLL")),
        )
        .await;
    teller
        .refuse("kv", "KV_vault", done(js.get_key_value("vault")))
        .await;
    teller
        .refuse(
            "object",
            "OBJ_archive",
            done(js.get_object_store("archive")),
        )
        .await;
    teller
        .refuse(
            "stream_delete",
            "DELETE.ORDERS",
            done(js.delete_stream("ORDERS")),
        )
        .await;
    teller.step("alive", publish_subscribe(client)).await;
    let disconnected = teller.notes.counts.borrow().disconnected;
    teller.say("same_session", disconnected == 0, String::new());
}

/// Forgets what a call returned.
async fn done<T, E: Into<async_nats::Error>>(
    call: impl IntoFuture<Output = Result<T, E>>,
) -> Outcome {
    call.await.map(|_| String::new()).map_err(Into::into)
}
