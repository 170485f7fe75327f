/* The operations of the client matrix with nats.c 3.4. The contract is in tests/clients/main.rs.
 * This version of the library has no object store and no services. */

#include <arpa/inet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <nats/nats.h>

enum { BRIEF_MS = 1000, ORDERS = 10, ERRORS_MAX = 64, TEXT_MAX = 512 };

static int patience_ms = 20000;

static natsConnection *nc;
static jsCtx *js;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char errors[ERRORS_MAX][TEXT_MAX];
static int error_count, disconnects, reconnects, closes;

/* Why an operation failed: the text of the first check that did not hold. */
static char failure[TEXT_MAX];

static int counted(const int *counter)
{
    pthread_mutex_lock(&lock);
    int value = *counter;
    pthread_mutex_unlock(&lock);
    return value;
}

static bool reached(const int *counter, int value)
{
    for (int waited = 0; waited < patience_ms; waited += 10) {
        if (counted(counter) >= value)
            return true;
        nats_Sleep(10);
    }
    return false;
}

static void print_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            putchar(' ');
        else
            putchar(*text);
    }
    putchar('"');
}

static void say(const char *op, bool ok, const char *detail)
{
    printf("{\"op\": \"%s\", \"ok\": %s, \"detail\": ", op, ok ? "true" : "false");
    print_text(detail);
    puts("}");
    fflush(stdout);
}

/* GETs a fresh token; the library calls it for every connect. */
static const char *fresh_token(void *closure)
{
    static char answer[16384];
    (void)closure;
    const char *url = getenv("TOKEN_URL");
    int port = 0;
    sscanf(url, "http://127.0.0.1:%d/", &port);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return "";
    static const char request[] = "GET /token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    size_t length = 0;
    if (write(fd, request, sizeof request - 1) > 0) {
        ssize_t got;
        while ((got = read(fd, answer + length, sizeof answer - 1 - length)) > 0)
            length += (size_t)got;
    }
    close(fd);
    answer[length] = '\0';
    const char *body = strstr(answer, "\r\n\r\n");
    return body == NULL ? "" : body + 4;
}

static void on_error(natsConnection *from, natsSubscription *sub, natsStatus status, void *closure)
{
    (void)sub, (void)closure;
    const char *text = NULL;
    natsConnection_GetLastError(from, &text);
    pthread_mutex_lock(&lock);
    if (error_count < ERRORS_MAX)
        snprintf(errors[error_count++], TEXT_MAX, "%s: %s", natsStatus_GetText(status), text == NULL ? "" : text);
    pthread_mutex_unlock(&lock);
}

static void on_event(natsConnection *from, void *closure)
{
    (void)from;
    pthread_mutex_lock(&lock);
    ++*(int *)closure;
    pthread_mutex_unlock(&lock);
}

static natsStatus open_connection(void)
{
    natsOptions *options = NULL;
    natsStatus s = natsOptions_Create(&options);
    if (s == NATS_OK) s = natsOptions_SetURL(options, getenv("NATS_URL"));
    if (s == NATS_OK) s = natsOptions_SetName(options, "natsentry nats.c");
    if (s == NATS_OK) s = natsOptions_SetReconnectWait(options, 200);
    if (s == NATS_OK) s = natsOptions_SetMaxReconnect(options, 50);
    if (s == NATS_OK) s = natsOptions_SetErrorHandler(options, on_error, NULL);
    if (s == NATS_OK) s = natsOptions_SetDisconnectedCB(options, on_event, &disconnects);
    if (s == NATS_OK) s = natsOptions_SetReconnectedCB(options, on_event, &reconnects);
    if (s == NATS_OK) s = natsOptions_SetClosedCB(options, on_event, &closes);
    if (s == NATS_OK && getenv("TOKEN_URL") != NULL) s = natsOptions_SetTokenHandler(options, fresh_token, NULL);
    if (s == NATS_OK && getenv("NATS_CA") != NULL) {
        s = natsOptions_SetSecure(options, true);
        if (s == NATS_OK) s = natsOptions_LoadCATrustedCertificates(options, getenv("NATS_CA"));
    }
    if (s == NATS_OK) s = natsConnection_Connect(&nc, options);
    if (s == NATS_OK) s = natsConnection_JetStream(&js, nc, NULL);
    natsOptions_Destroy(options);
    return s;
}

/* Ends the operation with the text of the call or condition that did not hold. */
#define TRY(call)                                                                                        \
    do {                                                                                                 \
        natsStatus status_ = (call);                                                                     \
        if (status_ != NATS_OK) {                                                                        \
            snprintf(failure, sizeof failure, "%s: %s", #call, natsStatus_GetText(status_));             \
            return false;                                                                                \
        }                                                                                                \
    } while (0)
#define ENSURE(condition)                                                                                \
    do {                                                                                                 \
        if (!(condition)) {                                                                              \
            snprintf(failure, sizeof failure, "not so: %s", #condition);                                 \
            return false;                                                                                \
        }                                                                                                \
    } while (0)

static bool is(const char *data, int length, const char *expected)
{
    return (size_t)length == strlen(expected) && memcmp(data, expected, strlen(expected)) == 0;
}

static bool holds(natsMsg *message, const char *expected)
{
    return is(natsMsg_GetData(message), natsMsg_GetDataLength(message), expected);
}

/* What the role permits. */

static bool publish_subscribe(void)
{
    natsSubscription *sub;
    natsMsg *message;
    TRY(natsConnection_SubscribeSync(&sub, nc, "app.events.*"));
    TRY(natsConnection_PublishString(nc, "app.events.one", "hello"));
    TRY(natsSubscription_NextMsg(&message, sub, patience_ms));
    ENSURE(holds(message, "hello") && strcmp(natsMsg_GetSubject(message), "app.events.one") == 0);
    natsMsg_Destroy(message);
    natsSubscription_Destroy(sub);
    return true;
}

static bool wildcards(void)
{
    static const char *const subjects[] = {"app.wild.>", "app.*.card.*"};
    natsSubscription *subs[2];
    for (int index = 0; index < 2; index++)
        TRY(natsConnection_SubscribeSync(&subs[index], nc, subjects[index]));
    TRY(natsConnection_PublishString(nc, "app.wild.card.one", "joker"));
    for (int index = 0; index < 2; index++) {
        natsMsg *message;
        TRY(natsSubscription_NextMsg(&message, subs[index], patience_ms));
        ENSURE(holds(message, "joker") && strcmp(natsMsg_GetSubject(message), "app.wild.card.one") == 0);
        natsMsg_Destroy(message);
        natsSubscription_Destroy(subs[index]);
    }
    return true;
}

static bool large_payload(void)
{
    static char data[1000000];
    natsSubscription *sub;
    natsMsg *message;
    for (size_t index = 0; index < sizeof data; index++)
        data[index] = (char)(index % 251);
    TRY(natsConnection_SubscribeSync(&sub, nc, "app.large"));
    TRY(natsConnection_Publish(nc, "app.large", data, (int)sizeof data));
    TRY(natsSubscription_NextMsg(&message, sub, patience_ms));
    ENSURE(natsMsg_GetDataLength(message) == (int)sizeof data);
    ENSURE(memcmp(natsMsg_GetData(message), data, sizeof data) == 0);
    natsMsg_Destroy(message);
    natsSubscription_Destroy(sub);
    return true;
}

static bool flush_rtt(void)
{
    int64_t rtt = 0;
    TRY(natsConnection_FlushTimeout(nc, patience_ms));
    TRY(natsConnection_GetRTT(nc, &rtt));
    ENSURE(rtt > 0);
    return true;
}

static void count_message(natsConnection *from, natsSubscription *sub, natsMsg *message, void *closure)
{
    (void)sub;
    natsMsg_Destroy(message);
    on_event(from, closure);
}

static bool queue_group(void)
{
    static int one, two;
    natsSubscription *first, *second;
    TRY(natsConnection_QueueSubscribe(&first, nc, "app.work", "crew", count_message, &one));
    TRY(natsConnection_QueueSubscribe(&second, nc, "app.work", "crew", count_message, &two));
    for (int number = 0; number < 100; number++)
        TRY(natsConnection_PublishString(nc, "app.work", "x"));
    for (int waited = 0; waited < patience_ms && counted(&one) + counted(&two) < 100; waited += 10)
        nats_Sleep(10);
    TRY(natsConnection_Flush(nc));
    ENSURE(counted(&one) > 0 && counted(&two) > 0 && counted(&one) + counted(&two) == 100);
    natsSubscription_Destroy(first);
    natsSubscription_Destroy(second);
    return true;
}

static void answer(natsConnection *from, natsSubscription *sub, natsMsg *message, void *closure)
{
    (void)sub, (void)closure;
    char text[64];
    snprintf(text, sizeof text, "re:%.*s", natsMsg_GetDataLength(message), natsMsg_GetData(message));
    natsConnection_PublishString(from, natsMsg_GetReply(message), text);
    natsMsg_Destroy(message);
}

static bool request_reply(void)
{
    natsSubscription *sub;
    natsMsg *reply;
    TRY(natsConnection_Subscribe(&sub, nc, "app.echo", answer, NULL));
    TRY(natsConnection_RequestString(&reply, nc, "app.echo", "ping", patience_ms));
    ENSURE(holds(reply, "re:ping"));
    natsMsg_Destroy(reply);
    natsSubscription_Destroy(sub);
    return true;
}

static natsStatus publish_with_headers(const char *subject)
{
    natsMsg *message = NULL;
    natsStatus s = natsMsg_Create(&message, subject, NULL, "body", 4);
    if (s == NATS_OK) s = natsMsgHeader_Set(message, "X-One", "1");
    if (s == NATS_OK) s = natsMsgHeader_Set(message, "X-Two", "zwei");
    if (s == NATS_OK) s = natsConnection_PublishMsg(nc, message);
    natsMsg_Destroy(message);
    return s;
}

static bool headers(void)
{
    natsSubscription *sub;
    natsMsg *message;
    const char *one, *two;
    TRY(natsConnection_SubscribeSync(&sub, nc, "app.headers"));
    TRY(publish_with_headers("app.headers"));
    TRY(natsSubscription_NextMsg(&message, sub, patience_ms));
    TRY(natsMsgHeader_Get(message, "X-One", &one));
    TRY(natsMsgHeader_Get(message, "X-Two", &two));
    ENSURE(holds(message, "body") && strcmp(one, "1") == 0 && strcmp(two, "zwei") == 0);
    natsMsg_Destroy(message);
    natsSubscription_Destroy(sub);
    return true;
}

static bool no_responders(void)
{
    natsMsg *reply = NULL;
    ENSURE(natsConnection_RequestString(&reply, nc, "app.nobody", "?", patience_ms) == NATS_NO_RESPONDERS);
    return true;
}

static bool jetstream_publish(void)
{
    for (int number = 0; number < ORDERS; number++) {
        char subject[32], order[32];
        jsPubAck *ack;
        snprintf(subject, sizeof subject, "orders.eu.%d", number);
        snprintf(order, sizeof order, "order %d", number);
        TRY(js_Publish(&ack, js, subject, order, (int)strlen(order), NULL, NULL));
        ENSURE(strcmp(ack->Stream, "ORDERS") == 0 && ack->Sequence == (uint64_t)number + 1);
        jsPubAck_Destroy(ack);
    }
    return true;
}

static bool is_order(natsMsg *message, int number)
{
    char order[32];
    snprintf(order, sizeof order, "order %d", number);
    return holds(message, order);
}

static bool pull_consumer(void)
{
    natsSubscription *sub;
    jsSubOptions options;
    jsConsumerInfo *info;
    jsSubOptions_Init(&options);
    options.Stream = "ORDERS";
    TRY(js_PullSubscribe(&sub, js, "orders.eu.>", "worker", NULL, &options, NULL));
    for (int seen = 0; seen < ORDERS;) {
        natsMsgList list;
        TRY(natsSubscription_Fetch(&list, sub, 5, patience_ms, NULL));
        for (int index = 0; index < list.Count; index++) {
            ENSURE(is_order(list.Msgs[index], seen++));
            TRY(natsMsg_AckSync(list.Msgs[index], NULL, NULL));
        }
        natsMsgList_Destroy(&list);
    }
    TRY(natsSubscription_GetConsumerInfo(&info, sub, NULL, NULL));
    ENSURE(info->NumAckPending == 0);
    jsConsumerInfo_Destroy(info);
    natsSubscription_Destroy(sub);
    return true;
}

static bool push_consumer(void)
{
    natsSubscription *sub;
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Stream = "ORDERS";
    options.ManualAck = true;
    TRY(js_SubscribeSync(&sub, js, "orders.eu.>", NULL, &options, NULL));
    for (int seen = 0; seen < ORDERS; seen++) {
        natsMsg *message;
        TRY(natsSubscription_NextMsg(&message, sub, patience_ms));
        ENSURE(is_order(message, seen));
        TRY(natsMsg_AckSync(message, NULL, NULL));
        natsMsg_Destroy(message);
    }
    TRY(natsSubscription_Unsubscribe(sub));
    natsSubscription_Destroy(sub);
    return true;
}

static natsStatus subscribe_ordered(natsSubscription **sub, const char *subject, const char *stream)
{
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Stream = stream;
    options.Ordered = true;
    return js_SubscribeSync(sub, js, subject, NULL, &options, NULL);
}

static bool ordered_consumer(void)
{
    natsSubscription *sub;
    TRY(subscribe_ordered(&sub, "orders.eu.>", "ORDERS"));
    for (int seen = 0; seen < ORDERS; seen++) {
        natsMsg *message;
        TRY(natsSubscription_NextMsg(&message, sub, patience_ms));
        ENSURE(is_order(message, seen));
        natsMsg_Destroy(message);
    }
    natsSubscription_Destroy(sub);
    return true;
}

static bool kv_put_get(void)
{
    kvStore *kv;
    kvEntry *entry;
    uint64_t revision;
    TRY(js_KeyValue(&kv, js, "config"));
    TRY(kvStore_PutString(&revision, kv, "app.limit", "12"));
    TRY(kvStore_Get(&entry, kv, "app.limit"));
    ENSURE(is(kvEntry_Value(entry), kvEntry_ValueLen(entry), "12") && kvEntry_Revision(entry) == revision);
    kvEntry_Destroy(entry);
    TRY(kvStore_Delete(kv, "app.limit"));
    kvStore_Destroy(kv);
    return true;
}

static bool kv_watch(void)
{
    kvStore *kv;
    kvWatcher *watcher;
    kvEntry *entry;
    TRY(js_KeyValue(&kv, js, "config"));
    TRY(kvStore_Watch(&watcher, kv, "app.*", NULL));
    /* The delete marker of the step before, then the mark that the initial state is complete. */
    do {
        TRY(kvWatcher_Next(&entry, watcher, patience_ms));
        bool end = entry == NULL;
        kvEntry_Destroy(entry);
        if (end)
            break;
    } while (true);
    TRY(kvStore_PutString(NULL, kv, "app.watched", "yes"));
    TRY(kvWatcher_Next(&entry, watcher, patience_ms));
    ENSURE(strcmp(kvEntry_Key(entry), "app.watched") == 0);
    ENSURE(is(kvEntry_Value(entry), kvEntry_ValueLen(entry), "yes"));
    kvEntry_Destroy(entry);
    kvWatcher_Destroy(watcher);
    kvStore_Destroy(kv);
    return true;
}

static bool reconnect(void)
{
    natsSubscription *sub;
    natsMsg *message;
    TRY(natsConnection_SubscribeSync(&sub, nc, "app.after.*"));
    TRY(natsConnection_Flush(nc));
    int before = counted(&reconnects);
    puts("{\"ready\": \"reconnect\"}");
    fflush(stdout);
    ENSURE(reached(&disconnects, 1));
    ENSURE(reached(&reconnects, before + 1));
    TRY(natsConnection_PublishString(nc, "app.after.reconnect", "back"));
    TRY(natsSubscription_NextMsg(&message, sub, patience_ms));
    ENSURE(holds(message, "back"));
    natsMsg_Destroy(message);
    natsSubscription_Destroy(sub);
    return true;
}

static void count_slowly(natsConnection *from, natsSubscription *sub, natsMsg *message, void *closure)
{
    nats_Sleep(10);
    count_message(from, sub, message, closure);
}

static bool drain(void)
{
    static int seen;
    natsSubscription *sub;
    TRY(natsConnection_Subscribe(&sub, nc, "app.drain", count_slowly, &seen));
    for (int number = 0; number < 20; number++)
        TRY(natsConnection_PublishString(nc, "app.drain", "x"));
    TRY(natsConnection_Flush(nc));
    TRY(natsConnection_Drain(nc));
    ENSURE(reached(&closes, 1));
    ENSURE(counted(&seen) == 20);
    natsSubscription_Destroy(sub);
    return true;
}

/* What it does not. A call may fail or not; the violation comes to the error handler. */

static natsStatus refused_publish(void) { return natsConnection_PublishString(nc, "secret.plan", "x"); }
static natsStatus refused_headers(void) { return publish_with_headers("secret.headers"); }

static natsStatus refused_subscribe(void)
{
    natsSubscription *sub;
    return natsConnection_SubscribeSync(&sub, nc, "secret.>");
}

static natsStatus refused_queue(void)
{
    natsSubscription *sub;
    return natsConnection_QueueSubscribeSync(&sub, nc, "secret.work", "crew");
}

static natsStatus refused_request(void)
{
    natsMsg *reply;
    return natsConnection_RequestString(&reply, nc, "secret.ask", "?", BRIEF_MS);
}

static jsOptions *briefly(void)
{
    static jsOptions options;
    jsOptions_Init(&options);
    options.Wait = BRIEF_MS;
    return &options;
}

static natsStatus refused_jetstream_publish(void)
{
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MaxWait = BRIEF_MS;
    return js_Publish(NULL, js, "payroll.june", "x", 1, &options, NULL);
}

static natsStatus refused_pull(void)
{
    natsSubscription *sub;
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Stream = "PAYROLL";
    options.Consumer = "clerk";
    return js_PullSubscribe(&sub, js, "payroll.>", "clerk", briefly(), &options, NULL);
}

static natsStatus refused_create(void)
{
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.Durable = "thief";
    return js_AddConsumer(NULL, js, "PAYROLL", &config, briefly(), NULL);
}

static natsStatus refused_ordered(void)
{
    natsSubscription *sub;
    return subscribe_ordered(&sub, "payroll.>", "PAYROLL");
}

static natsStatus refused_kv(void)
{
    kvStore *kv;
    return js_KeyValue(&kv, js, "vault");
}

static natsStatus refused_delete(void) { return js_DeleteStream(js, "ORDERS", briefly(), NULL); }

/* The violation says the subject: a call before may have been repeated by the library, so that its own comes late. */
static const char *violation_of(const char *subject, int from)
{
    for (int index = from; index < counted(&error_count); index++)
        if (strstr(errors[index], "Permissions Violation") != NULL && strstr(errors[index], subject) != NULL)
            return errors[index];
    return NULL;
}

static void refuse(const char *op, const char *subject, natsStatus (*call)(void))
{
    int before = counted(&error_count);
    const char *outcome = natsStatus_GetText(call());
    const char *violation = NULL;
    for (int waited = 0; waited < patience_ms && violation == NULL; waited += 10) {
        nats_Sleep(10);
        violation = violation_of(subject, before);
    }
    char detail[TEXT_MAX + 64];
    snprintf(detail, sizeof detail, "%s | %s", violation == NULL ? "no violation arrived" : violation, outcome);
    say(op, violation != NULL, detail);
}

static void step(const char *op, bool (*work)(void))
{
    failure[0] = '\0';
    bool ok = work();
    say(op, ok, failure);
}

static void permitted(void)
{
    step("publish_subscribe", publish_subscribe);
    step("wildcards", wildcards);
    step("large_payload", large_payload);
    step("flush_rtt", flush_rtt);
    step("queue_group", queue_group);
    step("request_reply", request_reply);
    step("headers", headers);
    step("no_responders", no_responders);
    step("jetstream_publish", jetstream_publish);
    step("pull_consumer", pull_consumer);
    step("push_consumer", push_consumer);
    step("ordered_consumer", ordered_consumer);
    step("kv_put_get", kv_put_get);
    step("kv_watch", kv_watch);
    step("reconnect", reconnect);
    step("drain", drain);
}

static void expiring(void)
{
    step("publish_subscribe", publish_subscribe);
    step("reconnect", reconnect);
    step("drain", drain);
}

static void refused(void)
{
    refuse("publish", "secret.plan", refused_publish);
    refuse("headers", "secret.headers", refused_headers);
    refuse("subscribe", "secret.>", refused_subscribe);
    refuse("queue_group", "secret.work", refused_queue);
    refuse("request_reply", "secret.ask", refused_request);
    refuse("jetstream_publish", "payroll.june", refused_jetstream_publish);
    refuse("pull_consumer", "PAYROLL.clerk", refused_pull);
    refuse("consumer_create", "PAYROLL.thief", refused_create);
    refuse("ordered_consumer", "PAYROLL", refused_ordered);
    refuse("kv", "KV_vault", refused_kv);
    refuse("stream_delete", "DELETE.ORDERS", refused_delete);
    step("alive", publish_subscribe);
    say("same_session", counted(&disconnects) == 0, "");
}

static void brief(void)
{
    step("publish_subscribe", publish_subscribe);
    step("drain", drain);
}

int main(int argc, char **argv)
{
    if (getenv("PATIENCE") != NULL)
        patience_ms = atoi(getenv("PATIENCE")) * 1000;
    natsStatus s = open_connection();
    say("connect", s == NATS_OK, natsStatus_GetText(s));
    if (s != NATS_OK || argc < 2)
        return 1;
    if (strcmp(argv[1], "permitted") == 0)
        permitted();
    else if (strcmp(argv[1], "expiring") == 0)
        expiring();
    else if (strcmp(argv[1], "brief") == 0)
        brief();
    else
        refused();
    return 0;
}
