// Every operation of the client matrix with nats.java. The contract is in tests/clients/main.rs.

import io.nats.client.Connection;
import io.nats.client.ConnectionListener.Events;
import io.nats.client.ConsumerContext;
import io.nats.client.Dispatcher;
import io.nats.client.ErrorListener;
import io.nats.client.FetchConsumeOptions;
import io.nats.client.FetchConsumer;
import io.nats.client.JetStream;
import io.nats.client.JetStreamOptions;
import io.nats.client.JetStreamStatusException;
import io.nats.client.KeyValue;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.ObjectStore;
import io.nats.client.Options;
import io.nats.client.PushSubscribeOptions;
import io.nats.client.JetStreamSubscription;
import io.nats.client.OrderedConsumerContext;
import io.nats.client.Subscription;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.KeyValueEntry;
import io.nats.client.api.KeyValueWatchOption;
import io.nats.client.api.KeyValueWatcher;
import io.nats.client.api.OrderedConsumerConfiguration;
import io.nats.client.api.PublishAck;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsMessage;
import io.nats.service.Service;
import io.nats.service.ServiceBuilder;
import io.nats.service.ServiceEndpoint;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public final class Client {
    private static final Duration PATIENCE =
        Duration.ofSeconds(Long.parseLong(System.getenv().getOrDefault("PATIENCE", "20")));
    private static final Duration BRIEF = Duration.ofSeconds(1);

    private interface Work {
        void run() throws Exception;
    }

    private final List<String> errors = new CopyOnWriteArrayList<>();
    private final AtomicInteger disconnects = new AtomicInteger();
    private final AtomicInteger reconnects = new AtomicInteger();
    private final ExecutorService workers = Executors.newCachedThreadPool(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });
    private Connection nc;

    private static String quoted(String text) {
        String escaped = text.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ");
        return "\"" + escaped + "\"";
    }

    private static synchronized void print(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static void say(String op, boolean ok, String detail) {
        print("{\"op\": " + quoted(op) + ", \"ok\": " + ok + ", \"detail\": " + quoted(detail) + "}");
    }

    private static char[] freshToken() {
        try (InputStream answer = URI.create(System.getenv("TOKEN_URL")).toURL().openStream()) {
            return new String(answer.readAllBytes(), StandardCharsets.UTF_8).toCharArray();
        } catch (java.io.IOException error) {
            return new char[0];
        }
    }

    private void connect() throws Exception {
        Options.Builder options = new Options.Builder()
            .server(System.getenv("NATS_URL"))
            .connectionName("natsentry nats.java")
            .connectionTimeout(PATIENCE)
            .reconnectWait(Duration.ofMillis(200))
            .maxReconnects(50)
            .connectionListener((connection, event) -> {
                if (event == Events.DISCONNECTED) disconnects.incrementAndGet();
                if (event == Events.RECONNECTED) reconnects.incrementAndGet();
            })
            .errorListener(new ErrorListener() {
                @Override
                public void errorOccurred(Connection connection, String error) {
                    errors.add(error);
                }
            });
        if (System.getenv("TOKEN_URL") != null) options.tokenSupplier(Client::freshToken);
        if (System.getenv("NATS_CA") != null) options.sslContext(trusting(Path.of(System.getenv("NATS_CA"))));
        nc = Nats.connect(options.build());
    }

    private static SSLContext trusting(Path pem) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(pem)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    /** Runs it on another thread, since not every call of the library takes a deadline. */
    private void within(Duration limit, Work work) throws Exception {
        Future<?> done = workers.submit(() -> {
            work.run();
            return null;
        });
        try {
            done.get(limit.toMillis(), TimeUnit.MILLISECONDS);
        } catch (ExecutionException error) {
            throw error.getCause() instanceof Exception ? (Exception) error.getCause() : error;
        } finally {
            done.cancel(true);
        }
    }

    private void step(String op, Work work) {
        try {
            within(PATIENCE, work);
            say(op, true, "");
        } catch (Exception error) {
            say(op, false, error + "; asynchronous: " + errors);
        }
    }

    private static void ensure(boolean condition, Object detail) {
        if (!condition) throw new IllegalStateException("not as expected: " + detail);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(Message message) {
        return message == null ? "nothing" : new String(message.getData(), StandardCharsets.UTF_8);
    }

    private static List<String> orders() {
        List<String> all = new ArrayList<>();
        for (int number = 0; number < 10; number++) all.add("order " + number);
        return all;
    }

    private static void await(java.util.function.BooleanSupplier reached) throws InterruptedException {
        for (long waited = 0; waited < PATIENCE.toMillis() && !reached.getAsBoolean(); waited += 10) Thread.sleep(10);
    }

    // What the role permits.

    private void publishSubscribe() throws Exception {
        Subscription sub = nc.subscribe("app.events.*");
        nc.publish("app.events.one", bytes("hello"));
        Message message = sub.nextMessage(PATIENCE);
        ensure(text(message).equals("hello") && message.getSubject().equals("app.events.one"), message);
        sub.unsubscribe();
    }

    private void wildcards() throws Exception {
        List<Subscription> subs = new ArrayList<>();
        for (String subject : List.of("app.wild.>", "app.*.card.*")) subs.add(nc.subscribe(subject));
        nc.publish("app.wild.card.one", bytes("joker"));
        for (Subscription sub : subs) {
            Message message = sub.nextMessage(PATIENCE);
            ensure(text(message).equals("joker") && message.getSubject().equals("app.wild.card.one"), message);
            sub.unsubscribe();
        }
    }

    private void largePayload() throws Exception {
        Subscription sub = nc.subscribe("app.large");
        byte[] data = new byte[1_000_000];
        for (int index = 0; index < data.length; index++) data[index] = (byte) (index % 251);
        nc.publish("app.large", data);
        Message message = sub.nextMessage(PATIENCE);
        ensure(message != null && Arrays.equals(message.getData(), data), message);
        sub.unsubscribe();
    }

    private void flushRtt() throws Exception {
        nc.flush(PATIENCE);
        ensure(nc.RTT().toNanos() > 0, "no time");
    }

    private void queueGroup() throws Exception {
        AtomicInteger one = new AtomicInteger();
        AtomicInteger two = new AtomicInteger();
        CountDownLatch all = new CountDownLatch(100);
        Dispatcher first = nc.createDispatcher(message -> { one.incrementAndGet(); all.countDown(); });
        Dispatcher second = nc.createDispatcher(message -> { two.incrementAndGet(); all.countDown(); });
        first.subscribe("app.work", "crew");
        second.subscribe("app.work", "crew");
        nc.flush(PATIENCE);
        for (int number = 0; number < 100; number++) nc.publish("app.work", bytes("x"));
        all.await();
        nc.flush(PATIENCE);
        ensure(one.get() > 0 && two.get() > 0 && one.get() + two.get() == 100, one + " and " + two);
        nc.closeDispatcher(first);
        nc.closeDispatcher(second);
    }

    private void requestReply() throws Exception {
        Dispatcher answering = nc.createDispatcher(
            message -> nc.publish(message.getReplyTo(), bytes("re:" + text(message))));
        answering.subscribe("app.echo");
        Message reply = nc.request("app.echo", bytes("ping"), PATIENCE);
        ensure(text(reply).equals("re:ping"), reply);
        nc.closeDispatcher(answering);
    }

    private void headers() throws Exception {
        Subscription sub = nc.subscribe("app.headers");
        Headers sent = new Headers().add("X-One", "1").add("X-Two", "zwei");
        nc.publish("app.headers", sent, bytes("body"));
        Message message = sub.nextMessage(PATIENCE);
        ensure(text(message).equals("body") && sent.equals(message.getHeaders()), message);
        sub.unsubscribe();
    }

    private void noResponders() throws Exception {
        // A connection that does not ask for exceptions cancels the request.
        try {
            nc.request("app.nobody", bytes("?")).get(PATIENCE.toMillis(), TimeUnit.MILLISECONDS);
        } catch (CancellationException none) {
            return;
        } catch (ExecutionException error) {
            if (error.getCause() instanceof JetStreamStatusException) return;
            throw error;
        }
        throw new IllegalStateException("somebody answered");
    }

    private JetStream jetStream(Duration timeout) throws Exception {
        return nc.jetStream(JetStreamOptions.builder().requestTimeout(timeout).build());
    }

    private void jetstreamPublish() throws Exception {
        JetStream js = jetStream(PATIENCE);
        List<String> orders = orders();
        for (int number = 0; number < orders.size(); number++) {
            PublishAck ack = js.publish("orders.eu." + number, bytes(orders.get(number)));
            ensure(ack.getStream().equals("ORDERS") && ack.getSeqno() == number + 1, ack);
        }
    }

    private void pullConsumer() throws Exception {
        ConsumerContext consumer = nc.getStreamContext("ORDERS").createOrUpdateConsumer(
            ConsumerConfiguration.builder()
                .durable("worker")
                .ackPolicy(AckPolicy.Explicit)
                .filterSubject("orders.eu.>")
                .build());
        List<String> seen = new ArrayList<>();
        while (seen.size() < 10) {
            FetchConsumeOptions five = FetchConsumeOptions.builder().maxMessages(5).expiresIn(2000).build();
            try (FetchConsumer batch = consumer.fetch(five)) {
                for (Message message = batch.nextMessage(); message != null; message = batch.nextMessage()) {
                    seen.add(text(message));
                    message.ackSync(PATIENCE);
                }
            }
        }
        ensure(seen.equals(orders()), seen);
        ensure(consumer.getConsumerInfo().getNumAckPending() == 0, "acknowledgements pending");
    }

    private void pushConsumer() throws Exception {
        PushSubscribeOptions options = PushSubscribeOptions.builder().stream("ORDERS").build();
        JetStreamSubscription sub = jetStream(PATIENCE).subscribe("orders.eu.>", options);
        List<String> seen = new ArrayList<>();
        while (seen.size() < 10) {
            Message message = sub.nextMessage(PATIENCE);
            ensure(message != null, seen);
            seen.add(text(message));
            message.ackSync(PATIENCE);
        }
        ensure(seen.equals(orders()), seen);
        sub.unsubscribe();
    }

    private void orderedConsumer() throws Exception {
        OrderedConsumerContext consumer = nc.getStreamContext("ORDERS")
            .createOrderedConsumer(new OrderedConsumerConfiguration().filterSubject("orders.eu.>"));
        List<String> seen = new ArrayList<>();
        try (var messages = consumer.iterate()) {
            while (seen.size() < 10) seen.add(text(messages.nextMessage(PATIENCE)));
        }
        ensure(seen.equals(orders()), seen);
    }

    private void kvPutGet() throws Exception {
        KeyValue kv = nc.keyValue("config");
        long revision = kv.put("app.limit", "12");
        KeyValueEntry entry = kv.get("app.limit");
        ensure(entry.getValueAsString().equals("12") && entry.getRevision() == revision, entry);
        kv.delete("app.limit");
    }

    private void kvWatch() throws Exception {
        KeyValue kv = nc.keyValue("config");
        BlockingQueue<KeyValueEntry> seen = new LinkedBlockingQueue<>();
        KeyValueWatcher watcher = new KeyValueWatcher() {
            @Override
            public void watch(KeyValueEntry entry) {
                seen.add(entry);
            }

            @Override
            public void endOfData() {
            }
        };
        try (var watch = kv.watch("app.*", watcher, KeyValueWatchOption.UPDATES_ONLY)) {
            kv.put("app.watched", "yes");
            KeyValueEntry entry = seen.take();
            ensure(entry.getKey().equals("app.watched") && entry.getValueAsString().equals("yes"), entry);
        }
    }

    private void objectPutGet() throws Exception {
        ObjectStore store = nc.objectStore("files");
        byte[] data = new byte[5 * 1024 * 1024];
        for (int index = 0; index < data.length; index++) data[index] = (byte) (index % 251);
        store.put("big", data);
        ByteArrayOutputStream got = new ByteArrayOutputStream();
        store.get("big", got);
        ensure(Arrays.equals(got.toByteArray(), data), got.size());
    }

    private void service() throws Exception {
        ServiceEndpoint echo = ServiceEndpoint.builder()
            .endpointName("echo")
            .endpointSubject("app.service")
            .handler(message -> message.respond(nc, bytes("re:" + new String(message.getData(), StandardCharsets.UTF_8))))
            .build();
        Service service = new ServiceBuilder()
            .connection(nc).name("echo").version("1.0.0").addServiceEndpoint(echo).build();
        service.startService();
        nc.flush(PATIENCE);
        Message reply = nc.request("app.service", bytes("ping"), PATIENCE);
        ensure(text(reply).equals("re:ping"), text(reply));
        Message info = nc.request("$SRV.INFO.echo", bytes(""), PATIENCE);
        ensure(text(info).contains("\"app.service\""), text(info));
        service.stop();
    }

    private void reconnect() throws Exception {
        Subscription sub = nc.subscribe("app.after.*");
        nc.flush(PATIENCE);
        int before = reconnects.get();
        print("{\"ready\": \"reconnect\"}");
        await(() -> disconnects.get() > 0 && reconnects.get() > before);
        nc.publish("app.after.reconnect", bytes("back"));
        Message message = sub.nextMessage(PATIENCE);
        ensure(text(message).equals("back"), message);
        sub.unsubscribe();
    }

    /**
     * On a connection of its own: the library's drain also waits for whatever a closed iterator of the steps before has
     * left in its queue, at times until the end of its patience, whatever server it talks to.
     */
    private void drain() throws Exception {
        nc.close();
        connect();
        AtomicInteger seen = new AtomicInteger();
        Dispatcher slowly = nc.createDispatcher(message -> {
            Thread.sleep(10);
            seen.incrementAndGet();
        });
        slowly.subscribe("app.drain");
        for (int number = 0; number < 20; number++) nc.publish("app.drain", bytes("x"));
        nc.flush(PATIENCE);
        nc.drain(PATIENCE).get();
        ensure(seen.get() == 20 && nc.getStatus() == Connection.Status.CLOSED, seen + ", " + nc.getStatus());
    }

    private void permitted() {
        step("publish_subscribe", this::publishSubscribe);
        step("wildcards", this::wildcards);
        step("large_payload", this::largePayload);
        step("flush_rtt", this::flushRtt);
        step("queue_group", this::queueGroup);
        step("request_reply", this::requestReply);
        step("headers", this::headers);
        step("no_responders", this::noResponders);
        step("jetstream_publish", this::jetstreamPublish);
        step("pull_consumer", this::pullConsumer);
        step("push_consumer", this::pushConsumer);
        step("ordered_consumer", this::orderedConsumer);
        step("kv_put_get", this::kvPutGet);
        step("kv_watch", this::kvWatch);
        step("object_put_get", this::objectPutGet);
        step("service", this::service);
        step("reconnect", this::reconnect);
        step("drain", this::drain);
    }

    private void expiring() {
        step("publish_subscribe", this::publishSubscribe);
        step("reconnect", this::reconnect);
        step("drain", this::drain);
    }

    private void brief() {
        step("publish_subscribe", this::publishSubscribe);
        step("drain", this::drain);
    }

    // What it does not.

    /** The call may fail or not; the violation comes to the listener, and says the subject. */
    private void refuse(String op, String subject, Work call) throws Exception {
        int before = errors.size();
        String outcome = "returned";
        try {
            within(BRIEF, call);
        } catch (Exception error) {
            outcome = error.toString();
        }
        for (long waited = 0; waited < PATIENCE.toMillis(); waited += 10) {
            // A copy: an error that arrives meanwhile must not end the loop over a part of the list.
            List<String> known = List.copyOf(errors);
            for (String error : known.subList(before, known.size())) {
                if (error.contains("Permissions Violation") && error.contains(subject)) {
                    say(op, true, error + " | " + outcome);
                    return;
                }
            }
            Thread.sleep(10);
        }
        say(op, false, "no violation arrived; the call " + outcome + "; asynchronous: " + errors);
    }

    private void refused() throws Exception {
        JetStream js = jetStream(BRIEF);
        var managed = nc.jetStreamManagement(JetStreamOptions.builder().requestTimeout(BRIEF).build());
        refuse("publish", "secret.plan", () -> nc.publish("secret.plan", bytes("x")));
        refuse("headers", "secret.headers", () -> nc.publish(NatsMessage.builder()
            .subject("secret.headers").headers(new Headers().add("A", "b")).data("x").build()));
        refuse("subscribe", "secret.>", () -> nc.subscribe("secret.>"));
        refuse("queue_group", "secret.work", () -> nc.subscribe("secret.work", "crew"));
        refuse("request_reply", "secret.ask", () -> nc.request("secret.ask", bytes("?"), BRIEF));
        refuse("jetstream_publish", "payroll.june", () -> js.publish("payroll.june", bytes("x")));
        refuse("pull_consumer", "PAYROLL.clerk", () -> managed.getConsumerInfo("PAYROLL", "clerk"));
        refuse("consumer_create", "PAYROLL.thief", () -> managed.addOrUpdateConsumer("PAYROLL",
            ConsumerConfiguration.builder().durable("thief").ackPolicy(AckPolicy.Explicit).build()));
        refuse("ordered_consumer", "PAYROLL", () -> js.getStreamContext("PAYROLL")
            .createOrderedConsumer(new OrderedConsumerConfiguration()).iterate());
        refuse("kv", "KV_vault", () -> nc.keyValue("vault").get("key"));
        refuse("object", "OBJ_archive", () -> nc.objectStore("archive").getInfo("key"));
        refuse("stream_delete", "DELETE.ORDERS", () -> managed.deleteStream("ORDERS"));
        step("alive", this::publishSubscribe);
        say("same_session", disconnects.get() == 0, "");
        nc.close();
    }

    public static void main(String[] args) throws Exception {
        Client client = new Client();
        try {
            client.connect();
            say("connect", true, "server " + client.nc.getServerInfo().getVersion());
        } catch (Exception error) {
            say("connect", false, error + "; asynchronous: " + client.errors);
            System.exit(1);
        }
        switch (args[0]) {
            case "permitted" -> client.permitted();
            case "expiring" -> client.expiring();
            case "brief" -> client.brief();
            default -> client.refused();
        }
        System.exit(0);
    }
}
