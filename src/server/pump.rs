//! The pump: drives one session over its two streams. It is the only place on the data path that waits.
//!
//! One task owns the session and both streams, so there is no channel and no lock of ours. Each turn: orders of the
//! server, timers, client to upstream, upstream to client. A side is read only while everything that was read from it
//! before is written: back-pressure instead of buffering.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep};

use super::client_stream::ClientStream;
use super::lane::Lane;
use super::memory::{Account, Memory, Share};
use super::scarcity::{Lack, Scarcity};
use super::sessions::{Handle, Order, Term};
use super::turns::give_way;
use crate::clock;
use crate::metrics::{TrafficHandles, add_traffic};
use crate::session::{CloseReason, Event, Need, Session, Traffic};
use crate::time::Timestamp;
use crate::upstream::LinkStream;

/// Turns before the task lets others run.
const TURNS: usize = 16;

/// Bytes read, of both sides, after which the task lets others run: some milliseconds.
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;

/// How long nothing is to happen before a session gives back what it remembers. Looked at once in that time, so that no
/// message sets a timer.
const REST: Duration = Duration::from_secs(2);

/// Bytes of a session's memory that are counted at a time; less than one of these is not counted.
const COUNTED: usize = 16 * 1024;

/// What the pump stops for.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The session needs something that the core cannot do.
    Need(Need),
    /// A fact to count and to audit.
    Event(Box<Event>),
    /// The upstream server said that it is about to go away. Said once.
    LameDuck,
    /// By the calendar the rights are to be judged again; nothing passes before that.
    TermOver,
    /// The session has ended and said all it had to say that could be written at once.
    Closed(CloseReason),
}

/// One session with its streams.
pub(super) struct Pump {
    pub(super) session: Box<Session>,
    client: ClientStream,
    upstream: Option<LinkStream>,
    /// What the client sent.
    from_client: Lane,
    /// What the upstream sent.
    from_upstream: Lane,
    /// For what the session itself holds.
    account: Account,
    /// Something happened since it was last looked at whether the session rests.
    stirred: bool,
    /// When that is looked at next.
    rest_due: Option<Timestamp>,
    scarcity: Scarcity,
    handle: Arc<Handle>,
    /// The one that the handle has.
    waker: Option<Waker>,
    traffic: Option<TrafficHandles>,
    reported: Traffic,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Timestamp>,
    client_blocked: bool,
    upstream_blocked: bool,
    told_lame_duck: bool,
    /// Bytes read since the task last let others run.
    read_at_once: usize,
    /// When the rights have to be judged again.
    rights_until: Option<Timestamp>,
    /// Our side of the upstream connection has ended.
    ended_upstream: bool,
    /// All that the client will ever send was read.
    client_is_through: bool,
    /// Likewise of the upstream.
    upstream_is_through: bool,
}

impl Pump {
    pub(super) fn new(
        session: Box<Session>,
        client: ClientStream,
        handle: Arc<Handle>,
        memory: &Arc<Memory>,
    ) -> Self {
        Self {
            session,
            client,
            upstream: None,
            from_client: Lane::new(Arc::clone(memory)),
            from_upstream: Lane::new(Arc::clone(memory)),
            account: Account::new(Arc::clone(memory)),
            stirred: false,
            rest_due: None,
            scarcity: Scarcity::default(),
            handle,
            waker: None,
            traffic: None,
            reported: Traffic::default(),
            sleep: Box::pin(tokio::time::sleep_until(Instant::now())),
            armed: None,
            client_blocked: false,
            upstream_blocked: false,
            told_lame_duck: false,
            read_at_once: 0,
            rights_until: None,
            ended_upstream: false,
            client_is_through: false,
            upstream_is_through: false,
        }
    }

    /// Binds the upstream connection, with what was read of it already.
    pub(super) fn bind(&mut self, link: LinkStream, leftover: Vec<u8>, traffic: TrafficHandles) {
        self.upstream = Some(link);
        if !leftover.is_empty() {
            self.from_upstream.begin_with(leftover);
        }
        self.traffic = Some(traffic);
    }

    /// Runs until something is to be done that the pump cannot do.
    pub(super) async fn run(&mut self) -> Outcome {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// As [`Self::run`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.be_woken(cx);
        self.from_client.wake();
        self.from_upstream.wake();
        let now = clock::now();
        let scarce = self.account.memory().is_beyond(Share::Half);
        self.session.handle_scarcity(scarce);
        self.read_at_once = 0;
        for _ in 0..TURNS {
            if self.session.gives_way() || self.read_at_once > BYTES_AT_ONCE {
                break;
            }
            self.take_orders(now);
            if self.is_term_over() {
                self.rights_until = None;
                return Poll::Ready(Outcome::TermOver);
            }
            self.session.handle_time(now);
            let mut moved = self.client_turn(cx, now);
            moved |= self.upstream_turn(cx, now);
            self.stirred |= moved;
            self.report();
            self.account.hold(self.session.held() / COUNTED * COUNTED);
            if let Some(event) = self.session.poll_event(now) {
                if self.session.close_reason().is_some() {
                    self.handle.end();
                }
                return Poll::Ready(Outcome::Event(Box::new(event)));
            }
            if let Some(reason) = self.session.close_reason() {
                return Poll::Ready(Outcome::Closed(reason));
            }
            if let Some(need) = self.session.poll_need() {
                // What is needed takes time, and many may wait for it at once: none of them holds a buffer for that.
                if self.session.to_upstream().is_drained() {
                    self.from_client.rest();
                }
                return Poll::Ready(Outcome::Need(need));
            }
            if !self.told_lame_duck && self.session.upstream_is_lame_duck() {
                self.told_lame_duck = true;
                return Poll::Ready(Outcome::LameDuck);
            }
            if moved || self.look_at_memory(now) {
                continue;
            }
            self.look_at_rest(now);
            if self.poll_timer(cx, now).is_pending() {
                self.session.handle_idle();
                return Poll::Pending;
            }
        }
        give_way(cx);
        Poll::Pending
    }

    /// Has orders wake the task. It is the same task for life: no poll after the first changes what others read.
    fn be_woken(&mut self, cx: &Context<'_>) {
        let known = self.waker.as_ref();
        if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.handle.wakes(cx.waker());
        }
    }

    /// Whether what the client has said of its next operation takes, or needs, a buffer that others could use.
    pub(super) fn holds_buffer_of_client(&self) -> bool {
        self.from_client.is_starved() || self.from_client.keeps_memory_waiting()
    }

    /// Lets the session rest when nothing has happened for a while.
    fn look_at_rest(&mut self, now: Timestamp) {
        if self.rest_due.is_some_and(|due| due > now) {
            return;
        }
        let was_due = self.rest_due.take().is_some();
        if std::mem::take(&mut self.stirred) {
            if self.session.may_rest() {
                self.rest_due = Some(now.plus(REST));
            }
        } else if was_due {
            self.session.handle_rest(now);
            self.account.hold(self.session.held() / COUNTED * COUNTED);
        }
    }

    /// Looks at the memory that it lacks or keeps from others. Whether that ended the session.
    fn look_at_memory(&mut self, now: Timestamp) -> bool {
        let starved = self.from_client.is_starved() || self.from_upstream.is_starved();
        // While upstream takes nothing it is not the client that is waited for.
        let keeps = self.from_client.keeps_memory_waiting() && !self.upstream_blocked;
        let kept = keeps.then(|| self.from_client.size());
        let lack = Lack {
            memory: self.account.memory(),
            session: self.handle.id.0,
            is_starved: starved,
            kept,
        };
        let ends = self.scarcity.look(&lack, now);
        if ends {
            self.session.handle_client_slow(now);
        }
        ends
    }

    fn take_orders(&mut self, now: Timestamp) {
        while let Some((order, told)) = self.handle.take() {
            match order {
                Order::End(reason) => self.session.handle_end(reason, now),
                Order::Cut(reason) => self.session.handle_cut(reason, now),
                Order::Revoke(why) => self.session.handle_revocation(why, now),
                Order::Rights(rights) => {
                    self.session.handle_policy(rights.permissions);
                    self.session.handle_limits(&rights.limits, now);
                    self.hold_until(rights.term, now);
                }
            }
            drop(told);
        }
    }

    /// Whether the rights have to be judged again. The clock is asked anew after each read, so that nothing is judged by
    /// them that was sent later.
    fn is_term_over(&self) -> bool {
        self.rights_until.is_some_and(|until| until <= clock::now())
    }

    /// How long the rights that the session has now hold by the calendar.
    pub(super) fn hold_until(&mut self, term: Term, now: Timestamp) {
        self.rights_until = term.until;
        if let Some(ends_at) = term.ends_at {
            self.session.handle_term(ends_at, now);
        }
    }

    /// Client to upstream: write what is judged, then read and judge more. Returns whether anything moved.
    fn client_turn(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let mut moved = !self.session.to_upstream().is_drained();
        if !self.flush_upstream(cx, now) {
            return false;
        }
        if self.session.ends_upstream() {
            self.end_upstream(cx, now);
        }
        if self.session.wants_client() {
            if !self.from_client.is_ready() {
                match self.from_client.poll_read(&mut self.client, cx) {
                    Poll::Pending => return moved,
                    Poll::Ready(Ok(0)) => {
                        self.client_is_through = true;
                        self.session.handle_client_eof(now);
                        return true;
                    }
                    Poll::Ready(Ok(count)) => {
                        self.note_read(count);
                        self.scarcity.note_brought(count);
                    }
                    Poll::Ready(Err(_)) => {
                        self.session.handle_client_lost(now);
                        return true;
                    }
                }
            }
            moved = true;
            if self.from_client.is_ready() && !self.is_term_over() {
                let (input, at) = self.from_client.unhandled_mut();
                let taken = self.session.handle_client(input, at, now);
                self.from_client.handled(taken);
                self.flush_upstream(cx, now);
            }
        }
        moved
    }

    /// Upstream to client, likewise.
    fn upstream_turn(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let mut moved = !self.session.to_client().is_drained();
        if !self.flush_client(cx, now) {
            return false;
        }
        let Some(upstream) = &mut self.upstream else {
            return moved;
        };
        if self.session.wants_upstream() {
            if !self.from_upstream.is_ready() {
                match self.from_upstream.poll_read(upstream, cx) {
                    Poll::Pending => return moved,
                    Poll::Ready(Ok(count)) if count > 0 => self.note_read(count),
                    Poll::Ready(_) => {
                        self.upstream_is_through = true;
                        self.session.handle_upstream_eof(now);
                        return true;
                    }
                }
            }
            moved = true;
            if self.from_upstream.is_ready() && !self.is_term_over() {
                let (input, at) = self.from_upstream.unhandled();
                let taken = self.session.handle_upstream(input, at, now);
                self.from_upstream.handled(taken);
                self.flush_client(cx, now);
            }
        }
        moved
    }

    const fn note_read(&mut self, count: usize) {
        self.read_at_once = self.read_at_once.saturating_add(count);
    }

    /// Ends our side of the upstream connection, once.
    fn end_upstream(&mut self, cx: &mut Context<'_>, now: Timestamp) {
        let Some(upstream) = self.upstream.as_mut().filter(|_| !self.ended_upstream) else {
            return;
        };
        if let Poll::Ready(ended) = Pin::new(upstream).poll_shutdown(cx) {
            self.ended_upstream = true;
            if ended.is_err() {
                self.session.handle_upstream_eof(now);
            }
        }
    }

    /// Returns whether everything for the upstream is written.
    fn flush_upstream(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let Some(upstream) = &mut self.upstream else {
            return true;
        };
        let outbox = self.session.to_upstream();
        let result = self.from_client.poll_flush(outbox, upstream, cx);
        let news = news_of(&result, &mut self.from_client, &mut self.upstream_blocked);
        for blocked in news.into_iter().flatten() {
            self.session.handle_upstream_blocked(blocked, now);
        }
        if let Poll::Ready(Err(_)) = result {
            self.session.handle_upstream_eof(now);
        }
        matches!(result, Poll::Ready(Ok(_)))
    }

    /// Returns whether everything for the client is written.
    fn flush_client(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let outbox = self.session.to_client();
        let result = self.from_upstream.poll_flush(outbox, &mut self.client, cx);
        let news = news_of(&result, &mut self.from_upstream, &mut self.client_blocked);
        for blocked in news.into_iter().flatten() {
            self.session.handle_client_blocked(blocked, now);
        }
        if let Poll::Ready(Err(_)) = result {
            self.session.handle_client_lost(now);
        }
        matches!(result, Poll::Ready(Ok(_)))
    }

    /// Hands what has passed to the metrics and to the table of sessions.
    fn report(&mut self) {
        let traffic = self.session.traffic();
        if traffic == self.reported {
            return;
        }
        if let Some(handles) = &self.traffic {
            add_traffic(handles, traffic.since(&self.reported));
        }
        self.reported = traffic;
        self.handle.note(traffic, self.session.subscriptions());
    }

    /// Ready when a timer is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<()> {
        let due = [
            self.session.poll_timeout(),
            self.rights_until,
            self.scarcity.due(),
            self.rest_due,
        ];
        let next = due.into_iter().flatten().min();
        if next != self.armed {
            self.armed = next;
            if let Some(at) = next {
                self.sleep.as_mut().reset(Instant::now() + at.since(now));
            }
        }
        match next {
            Some(at) if at <= now => Poll::Ready(()),
            // A clock that was set back must not be waited for in vain: look again when the sleep ends.
            Some(_) => self.sleep.as_mut().poll(cx).map(|()| self.armed = None),
            None => Poll::Pending,
        }
    }

    /// Writes what is left for both sides. To be bounded by the caller's deadline.
    pub(super) async fn finish(&mut self) {
        poll_fn(|cx| {
            let client = {
                let outbox = self.session.to_client();
                self.from_upstream.poll_flush(outbox, &mut self.client, cx)
            };
            let upstream = match &mut self.upstream {
                Some(upstream) => {
                    let outbox = self.session.to_upstream();
                    self.from_client.poll_flush(outbox, upstream, cx)
                }
                None => Poll::Ready(Ok(())),
            };
            if client.is_pending() || upstream.is_pending() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Takes the streams out of which something may still come, to be closed with care. The others are closed here: nothing
    /// is unread on them that would reset them, or nothing was said there that would be lost with that.
    pub(super) fn into_streams(self) -> (Option<ClientStream>, Option<LinkStream>) {
        let Self {
            session,
            client,
            upstream,
            client_is_through,
            upstream_is_through,
            ..
        } = self;
        let client_is_over = client_is_through && matches!(client, ClientStream::Plain(_));
        let upstream_is_over =
            upstream_is_through || (client_is_over && !session.may_be_under_way());
        let upstream =
            upstream.filter(|link| !(upstream_is_over && matches!(link, LinkStream::Plain(_))));
        ((!client_is_over).then_some(client), upstream)
    }
}

/// What a write tells of the one who is to take it, in this order: that it takes bytes, slowly, after it took none; that it
/// takes none now, or does again.
fn news_of(
    written: &Poll<io::Result<()>>,
    lane: &mut Lane,
    was_blocked: &mut bool,
) -> [Option<bool>; 2] {
    let blocked = written.is_pending();
    let stepped = blocked && lane.has_taken_a_step();
    let before = std::mem::replace(was_blocked, blocked) && !stepped;
    [
        stepped.then_some(false),
        (blocked != before).then_some(blocked),
    ]
}
