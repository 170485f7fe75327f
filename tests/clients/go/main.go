// Every operation of the client matrix with nats.go. The contract is in tests/clients/main.rs.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

const brief = time.Second

var patience = 20 * time.Second

type client struct {
	nc           *nats.Conn
	js           jetstream.JetStream
	mu           sync.Mutex
	errors       []string
	disconnected chan struct{}
	reconnected  chan struct{}
	lost         atomic.Int64
}

func print(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func say(op string, ok bool, detail string) {
	print(map[string]any{"op": op, "ok": ok, "detail": detail})
}

func freshToken() string {
	answer, err := http.Get(os.Getenv("TOKEN_URL"))
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	token, _ := io.ReadAll(answer.Body)
	return string(token)
}

func (c *client) heard() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.errors...)
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

func (c *client) connect() error {
	c.disconnected, c.reconnected = make(chan struct{}, 1), make(chan struct{}, 1)
	options := []nats.Option{
		nats.Name("natsentry nats.go"),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.MaxReconnects(50),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.errors = append(c.errors, err.Error())
		}),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { c.lost.Add(1); signal(c.disconnected) }),
		nats.ReconnectHandler(func(*nats.Conn) { signal(c.reconnected) }),
	}
	if os.Getenv("TOKEN_URL") != "" {
		options = append(options, nats.TokenHandler(freshToken))
	}
	if ca := os.Getenv("NATS_CA"); ca != "" {
		options = append(options, nats.RootCAs(ca))
	}
	var err error
	if c.nc, err = nats.Connect(os.Getenv("NATS_URL"), options...); err != nil {
		return err
	}
	c.js, err = jetstream.New(c.nc)
	return err
}

func within(limit time.Duration, work func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("took too long")
	}
}

func (c *client) step(op string, work func(context.Context) error) {
	if err := within(patience, work); err != nil {
		say(op, false, fmt.Sprintf("%v; asynchronous: %q", err, c.heard()))
	} else {
		say(op, true, "")
	}
}

func ensure(condition bool, detail any) error {
	if condition {
		return nil
	}
	return fmt.Errorf("not as expected: %v", detail)
}

func orders() (all []string) {
	for number := range 10 {
		all = append(all, fmt.Sprintf("order %d", number))
	}
	return all
}

// What the role permits.

func (c *client) publishSubscribe(context.Context) error {
	sub, err := c.nc.SubscribeSync("app.events.*")
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if err := c.nc.Publish("app.events.one", []byte("hello")); err != nil {
		return err
	}
	message, err := sub.NextMsg(patience)
	if err != nil {
		return err
	}
	return ensure(message.Subject == "app.events.one" && string(message.Data) == "hello", message)
}

func (c *client) wildcards(context.Context) error {
	var subs []*nats.Subscription
	for _, subject := range []string{"app.wild.>", "app.*.card.*"} {
		sub, err := c.nc.SubscribeSync(subject)
		if err != nil {
			return err
		}
		defer sub.Unsubscribe()
		subs = append(subs, sub)
	}
	if err := c.nc.Publish("app.wild.card.one", []byte("joker")); err != nil {
		return err
	}
	for _, sub := range subs {
		message, err := sub.NextMsg(patience)
		if err != nil {
			return err
		}
		if err := ensure(message.Subject == "app.wild.card.one" && string(message.Data) == "joker", message); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) largePayload(context.Context) error {
	sub, err := c.nc.SubscribeSync("app.large")
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	if err := c.nc.Publish("app.large", data); err != nil {
		return err
	}
	message, err := sub.NextMsg(patience)
	if err != nil {
		return err
	}
	return ensure(bytes.Equal(message.Data, data), len(message.Data))
}

func (c *client) flushRTT(context.Context) error {
	if err := c.nc.FlushTimeout(patience); err != nil {
		return err
	}
	rtt, err := c.nc.RTT()
	if err != nil {
		return err
	}
	return ensure(rtt > 0, rtt)
}

func (c *client) queueGroup(context.Context) error {
	var seen [2]atomic.Int64
	var all sync.WaitGroup
	all.Add(100)
	for index := range seen {
		sub, err := c.nc.QueueSubscribe("app.work", "crew", func(*nats.Msg) {
			seen[index].Add(1)
			all.Done()
		})
		if err != nil {
			return err
		}
		defer sub.Unsubscribe()
	}
	for range 100 {
		if err := c.nc.Publish("app.work", []byte("x")); err != nil {
			return err
		}
	}
	all.Wait()
	first, second := seen[0].Load(), seen[1].Load()
	return ensure(first > 0 && second > 0 && first+second == 100, []int64{first, second})
}

func (c *client) requestReply(context.Context) error {
	sub, err := c.nc.Subscribe("app.echo", func(message *nats.Msg) {
		message.Respond(append([]byte("re:"), message.Data...))
	})
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	reply, err := c.nc.Request("app.echo", []byte("ping"), patience)
	if err != nil {
		return err
	}
	return ensure(string(reply.Data) == "re:ping", reply)
}

func (c *client) headers(context.Context) error {
	sub, err := c.nc.SubscribeSync("app.headers")
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	sent := nats.Header{"X-One": {"1"}, "X-Two": {"zwei"}}
	if err := c.nc.PublishMsg(&nats.Msg{Subject: "app.headers", Header: sent, Data: []byte("body")}); err != nil {
		return err
	}
	message, err := sub.NextMsg(patience)
	if err != nil {
		return err
	}
	return ensure(string(message.Data) == "body" && reflect.DeepEqual(message.Header, sent), message.Header)
}

func (c *client) noResponders(context.Context) error {
	_, err := c.nc.Request("app.nobody", []byte("?"), patience)
	return ensure(errors.Is(err, nats.ErrNoResponders), err)
}

func (c *client) jetstreamPublish(ctx context.Context) error {
	for number, order := range orders() {
		ack, err := c.js.Publish(ctx, fmt.Sprintf("orders.eu.%d", number), []byte(order))
		if err != nil {
			return err
		}
		if err := ensure(ack.Stream == "ORDERS" && ack.Sequence == uint64(number+1), ack); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) pullConsumer(ctx context.Context) error {
	consumer, err := c.js.CreateOrUpdateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{
		Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "orders.eu.>",
	})
	if err != nil {
		return err
	}
	var seen []string
	for len(seen) < 10 {
		batch, err := consumer.Fetch(5, jetstream.FetchMaxWait(brief))
		if err != nil {
			return err
		}
		for message := range batch.Messages() {
			seen = append(seen, string(message.Data()))
			if err := message.DoubleAck(ctx); err != nil {
				return err
			}
		}
		if err := batch.Error(); err != nil {
			return err
		}
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	return ensure(reflect.DeepEqual(seen, orders()) && info.NumAckPending == 0, seen)
}

func (c *client) pushConsumer(ctx context.Context) error {
	consumer, err := c.js.CreateOrUpdatePushConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{
		DeliverSubject: nats.NewInbox(), AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "orders.eu.>",
	})
	if err != nil {
		return err
	}
	arrived := make(chan jetstream.Msg, 64)
	consuming, err := consumer.Consume(func(message jetstream.Msg) { arrived <- message })
	if err != nil {
		return err
	}
	defer consuming.Stop()
	var seen []string
	for len(seen) < 10 {
		select {
		case message := <-arrived:
			seen = append(seen, string(message.Data()))
			if err := message.DoubleAck(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ensure(reflect.DeepEqual(seen, orders()), seen)
}

func (c *client) orderedConsumer(ctx context.Context) error {
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{"orders.eu.>"}}
	consumer, err := c.js.OrderedConsumer(ctx, "ORDERS", config)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	var seen []string
	for len(seen) < 10 {
		message, err := messages.Next()
		if err != nil {
			return err
		}
		seen = append(seen, string(message.Data()))
	}
	return ensure(reflect.DeepEqual(seen, orders()), seen)
}

func (c *client) kvPutGet(ctx context.Context) error {
	kv, err := c.js.KeyValue(ctx, "config")
	if err != nil {
		return err
	}
	revision, err := kv.Put(ctx, "app.limit", []byte("12"))
	if err != nil {
		return err
	}
	entry, err := kv.Get(ctx, "app.limit")
	if err != nil {
		return err
	}
	if err := ensure(string(entry.Value()) == "12" && entry.Revision() == revision, entry); err != nil {
		return err
	}
	return kv.Delete(ctx, "app.limit")
}

func (c *client) kvWatch(ctx context.Context) error {
	kv, err := c.js.KeyValue(ctx, "config")
	if err != nil {
		return err
	}
	watcher, err := kv.Watch(ctx, "app.*", jetstream.UpdatesOnly())
	if err != nil {
		return err
	}
	defer watcher.Stop()
	if _, err := kv.Put(ctx, "app.watched", []byte("yes")); err != nil {
		return err
	}
	for entry := range watcher.Updates() {
		if entry != nil {
			return ensure(entry.Key() == "app.watched" && string(entry.Value()) == "yes", entry)
		}
	}
	return errors.New("the watch ended")
}

func (c *client) objectPutGet(ctx context.Context) error {
	store, err := c.js.ObjectStore(ctx, "files")
	if err != nil {
		return err
	}
	data := make([]byte, 5*1024*1024)
	for index := range data {
		data[index] = byte(index % 251)
	}
	if _, err := store.PutBytes(ctx, "big", data); err != nil {
		return err
	}
	got, err := store.GetBytes(ctx, "big")
	if err != nil {
		return err
	}
	return ensure(bytes.Equal(got, data), len(got))
}

func (c *client) service(context.Context) error {
	service, err := micro.AddService(c.nc, micro.Config{Name: "echo", Version: "1.0.0"})
	if err != nil {
		return err
	}
	defer service.Stop()
	handler := micro.HandlerFunc(func(request micro.Request) {
		request.Respond(append([]byte("re:"), request.Data()...))
	})
	if err := service.AddEndpoint("echo", handler, micro.WithEndpointSubject("app.service")); err != nil {
		return err
	}
	reply, err := c.nc.Request("app.service", []byte("ping"), patience)
	if err != nil {
		return err
	}
	if err := ensure(string(reply.Data) == "re:ping", string(reply.Data)); err != nil {
		return err
	}
	info, err := c.nc.Request("$SRV.INFO.echo", nil, patience)
	if err != nil {
		return err
	}
	return ensure(strings.Contains(string(info.Data), `"app.service"`), string(info.Data))
}

func (c *client) reconnect(ctx context.Context) error {
	sub, err := c.nc.SubscribeSync("app.after.*")
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if err := c.nc.Flush(); err != nil {
		return err
	}
	print(map[string]string{"ready": "reconnect"})
	<-c.disconnected
	<-c.reconnected
	if err := c.nc.Publish("app.after.reconnect", []byte("back")); err != nil {
		return err
	}
	message, err := sub.NextMsg(patience)
	if err != nil {
		return err
	}
	return ensure(string(message.Data) == "back", message)
}

func (c *client) drain(context.Context) error {
	var seen atomic.Int64
	closed := make(chan struct{})
	c.nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	_, err := c.nc.Subscribe("app.drain", func(*nats.Msg) {
		time.Sleep(10 * time.Millisecond)
		seen.Add(1)
	})
	if err != nil {
		return err
	}
	for range 20 {
		if err := c.nc.Publish("app.drain", []byte("x")); err != nil {
			return err
		}
	}
	if err := c.nc.Flush(); err != nil {
		return err
	}
	if err := c.nc.Drain(); err != nil {
		return err
	}
	<-closed
	return ensure(seen.Load() == 20, seen.Load())
}

func (c *client) permitted() {
	c.step("publish_subscribe", c.publishSubscribe)
	c.step("wildcards", c.wildcards)
	c.step("large_payload", c.largePayload)
	c.step("flush_rtt", c.flushRTT)
	c.step("queue_group", c.queueGroup)
	c.step("request_reply", c.requestReply)
	c.step("headers", c.headers)
	c.step("no_responders", c.noResponders)
	c.step("jetstream_publish", c.jetstreamPublish)
	c.step("pull_consumer", c.pullConsumer)
	c.step("push_consumer", c.pushConsumer)
	c.step("ordered_consumer", c.orderedConsumer)
	c.step("kv_put_get", c.kvPutGet)
	c.step("kv_watch", c.kvWatch)
	c.step("object_put_get", c.objectPutGet)
	c.step("service", c.service)
	c.step("reconnect", c.reconnect)
	c.step("drain", c.drain)
}

func (c *client) expiring() {
	c.step("publish_subscribe", c.publishSubscribe)
	c.step("reconnect", c.reconnect)
	c.step("drain", c.drain)
}

// What it does not.

// The call may fail or not; the violation comes to the error handler, and says the subject: a call before may have
// been repeated by the library, so that its own comes late.
func (c *client) refuse(op, subject string, call func(context.Context) error) {
	before := len(c.heard())
	outcome := "returned"
	if err := within(brief, call); err != nil {
		outcome = err.Error()
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, text := range c.heard()[before:] {
			if strings.Contains(text, "Permissions Violation") && strings.Contains(text, subject) {
				say(op, true, text+" | "+outcome)
				return
			}
		}
	}
	say(op, false, fmt.Sprintf("no violation arrived; the call %s; asynchronous: %q", outcome, c.heard()))
}

func (c *client) refused() {
	nc, js := c.nc, c.js
	c.refuse("publish", "secret.plan", func(context.Context) error { return nc.Publish("secret.plan", nil) })
	c.refuse("headers", "secret.headers", func(context.Context) error {
		return nc.PublishMsg(&nats.Msg{Subject: "secret.headers", Header: nats.Header{"A": {"b"}}})
	})
	c.refuse("subscribe", "secret.>", func(context.Context) error {
		_, err := nc.SubscribeSync("secret.>")
		return err
	})
	c.refuse("queue_group", "secret.work", func(context.Context) error {
		_, err := nc.QueueSubscribeSync("secret.work", "crew")
		return err
	})
	c.refuse("request_reply", "secret.ask", func(context.Context) error {
		_, err := nc.Request("secret.ask", nil, brief)
		return err
	})
	c.refuse("jetstream_publish", "payroll.june", func(ctx context.Context) error {
		_, err := js.Publish(ctx, "payroll.june", nil)
		return err
	})
	c.refuse("pull_consumer", "PAYROLL.clerk", func(ctx context.Context) error {
		_, err := js.Consumer(ctx, "PAYROLL", "clerk")
		return err
	})
	c.refuse("consumer_create", "PAYROLL.thief", func(ctx context.Context) error {
		_, err := js.CreateOrUpdateConsumer(ctx, "PAYROLL", jetstream.ConsumerConfig{Durable: "thief"})
		return err
	})
	c.refuse("ordered_consumer", "PAYROLL", func(ctx context.Context) error {
		_, err := js.OrderedConsumer(ctx, "PAYROLL", jetstream.OrderedConsumerConfig{})
		return err
	})
	c.refuse("kv", "KV_vault", func(ctx context.Context) error {
		_, err := js.KeyValue(ctx, "vault")
		return err
	})
	c.refuse("object", "OBJ_archive", func(ctx context.Context) error {
		_, err := js.ObjectStore(ctx, "archive")
		return err
	})
	c.refuse("stream_delete", "DELETE.ORDERS", func(ctx context.Context) error { return js.DeleteStream(ctx, "ORDERS") })
	c.step("alive", c.publishSubscribe)
	say("same_session", c.lost.Load() == 0, "")
	nc.Close()
}

func main() {
	if seconds, err := strconv.Atoi(os.Getenv("PATIENCE")); err == nil {
		patience = time.Duration(seconds) * time.Second
	}
	c := &client{}
	if err := c.connect(); err != nil {
		say("connect", false, err.Error())
		os.Exit(1)
	}
	say("connect", true, "server "+c.nc.ConnectedServerVersion())
	switch os.Args[1] {
	case "permitted":
		c.permitted()
	case "expiring":
		c.expiring()
	case "brief":
		c.step("publish_subscribe", c.publishSubscribe)
		c.step("drain", c.drain)
	default:
		c.refused()
	}
}
