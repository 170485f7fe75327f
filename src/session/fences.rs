//! Deliveries that are under way when a subscription is taken away.
//!
//! Upstream may have sent more on a sid before it sees our UNSUB. Nothing of that may reach the client, not even when
//! the client has used the sid again meanwhile. So a PING of our own follows the UNSUB: everything on the sid before its
//! PONG belongs to the subscription that is gone. PONGs come in the order of the PINGs, so ours can be told from the
//! client's by counting.
//!
//! A change of policy fences off more: a subscription that the client itself ended just before may have messages under way
//! too, and who knows whether they are still granted. Until the PONG, only subscriptions that were judged by the new
//! policy and kept are delivered to.
//!
//! What the client gave up itself is still delivered, as a server would have sent it before it read the UNSUB, but only until
//! the PONG of any PING that was sent after it: what comes on a sid that nobody holds later than that is nobody's. Where the
//! client takes such a sid up again, what comes before that PONG belongs to the subscription before: it is not counted for
//! the new one, and a change of policy bars it. Likewise where the client sets a number (UNSUB max) that is reached here
//! before upstream knows of it: what was under way then still comes.
//!
//! Must never: swallow a PONG that answers the client.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// A PING of our own that upstream has not answered.
#[derive(Debug)]
struct Fence {
    /// PONGs for the client that come before ours, counted from the fence before.
    pongs_before: u64,
    sids: Vec<Box<[u8]>>,
    /// Number of the change of policy that it stands for.
    change: Option<u64>,
}

/// What the PONG of upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pong {
    /// A PING of the client.
    Clients,
    /// A PING of ours.
    Ours,
}

/// The sids on which nothing is delivered for now.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// PINGs of the client that were forwarded after the last fence and are not answered.
    pings: u64,
    /// Changes of policy so far.
    changes: u64,
    /// PINGs sent upstream, and PONGs that came, whoever's they were.
    sent: u64,
    answered: u64,
    /// Sids given up since the last PING.
    uncovered: u32,
    /// How many stand: asked for each operation of a client.
    count: u32,
    /// What is under way; none while nothing is, as in most sessions and in every idle one.
    under_way: Option<Box<UnderWay>>,
}

/// What upstream is still to answer.
#[derive(Debug, Default)]
struct UnderWay {
    waiting: VecDeque<Fence>,
    barred: HashMap<Box<[u8]>, u32>,
    /// Bytes of the sids of all that wait.
    barred_bytes: usize,
    /// The first change whose fence still stands.
    standing: Option<u64>,
    /// Sids that the client gave up or set a number for.
    leaving: HashMap<Arc<[u8]>, Leaving>,
    leaving_bytes: usize,
    /// The same sids by [`Leaving::before`], so that a PONG finds those that it ends; one that was given up again since stands
    /// where it stood the first time.
    by_ping: BTreeMap<u64, Vec<Arc<[u8]>>>,
}

/// What may be under way on a sid.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// PINGs sent before the UNSUB.
    before: u64,
    /// It is for a subscription that is gone. Otherwise it is for the one that has the sid, as long as one does.
    of_the_past: bool,
}

/// Sids given up in a row after which upstream is asked whether it knows: clients that flush ask by themselves.
const UNCOVERED_MAX: u32 = 32;

/// Bytes of sids given up that are remembered. What is under way on one beyond is not delivered.
const LEAVING_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a sid costs besides itself, at most: where each was given up behind a PING of its own.
const EACH: usize = 256;

impl Fences {
    /// Bars sids until the PONG comes that answers a PING which the caller sends now, after the UNSUBs.
    pub(super) fn bar(&mut self, sids: Vec<Box<[u8]>>) {
        self.put(sids, None);
    }

    /// The same after a change of policy: bars besides every sid that has no subscription of before the change.
    pub(super) fn bar_all_but_kept(&mut self, sids: Vec<Box<[u8]>>) {
        self.changes = self.changes.saturating_add(1);
        self.put(sids, Some(self.changes));
    }

    /// The client gave `sid` up. Whether a PING has to be sent now, with a fence for it.
    pub(super) fn left(&mut self, sid: &[u8]) -> bool {
        self.leave(sid, true)
    }

    /// The client set a number for `sid`, of which upstream will know. As [`Self::left`].
    pub(super) fn limited(&mut self, sid: &[u8]) -> bool {
        let of_the_past = self.is_of_the_past(sid);
        self.leave(sid, of_the_past)
    }

    fn leave(&mut self, sid: &[u8], of_the_past: bool) -> bool {
        let leaving = Leaving {
            before: self.sent,
            of_the_past,
        };
        self.under_way.get_or_insert_default().leave(sid, leaving);
        self.uncovered = self.uncovered.saturating_add(1);
        self.uncovered >= UNCOVERED_MAX
    }

    /// Whether every delivery belongs to whoever holds its sid: no fence stands, and no sid was given up or limited of which
    /// something may be under way.
    #[inline]
    pub(super) const fn are_quiet(&self) -> bool {
        self.under_way.is_none()
    }

    fn leaving(&self, sid: &[u8]) -> Option<&Leaving> {
        let under_way = self.under_way.as_ref()?;
        under_way.leaving.get(sid)
    }

    /// Whether messages may be under way on `sid` beyond what its subscription, if there is one, counts.
    #[inline]
    pub(super) fn is_leaving(&self, sid: &[u8]) -> bool {
        self.leaving(sid).is_some()
    }

    /// Whether what comes on `sid` is for a subscription that is gone.
    #[inline]
    pub(super) fn is_of_the_past(&self, sid: &[u8]) -> bool {
        self.leaving(sid).is_some_and(|sid| sid.of_the_past)
    }

    /// The client uses `sid` anew. Whether a PING has to be sent before, with a fence for it: nothing tells yet where the
    /// messages of the subscription before end.
    pub(super) fn taken_up(&mut self, sid: &[u8]) -> bool {
        let sent = self.sent;
        let under_way = self.under_way.as_mut();
        let leaving = under_way.and_then(|under_way| under_way.leaving.get_mut(sid));
        leaving.is_some_and(|leaving| {
            leaving.of_the_past = true;
            leaving.before == sent
        })
    }

    fn put(&mut self, sids: Vec<Box<[u8]>>, change: Option<u64>) {
        self.count_ping();
        self.count = self.count.saturating_add(1);
        let pongs_before = std::mem::take(&mut self.pings);
        let under_way = self.under_way.get_or_insert_default();
        for sid in &sids {
            under_way.barred_bytes = under_way.barred_bytes.saturating_add(sid.len());
            let fences = under_way.barred.entry(sid.clone()).or_default();
            *fences = fences.saturating_add(1);
        }
        under_way.standing = under_way.standing.or(change);
        under_way.waiting.push_back(Fence {
            pongs_before,
            sids,
            change,
        });
    }

    /// Whether upstream has not answered every PING.
    pub(super) const fn awaits_pong(&self) -> bool {
        self.answered < self.sent
    }

    /// PINGs sent upstream so far, whoever's they were.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them upstream has answered.
    pub(super) const fn answered(&self) -> u64 {
        self.answered
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> usize {
        self.under_way.as_deref().map_or(0, UnderWay::held)
    }

    /// How many stand.
    #[inline]
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Changes of policy so far, for a subscription to remember when it is made.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether any fence stands; where none does, the other questions need not be asked.
    #[inline]
    pub(super) const fn stand(&self) -> bool {
        self.count > 0
    }

    /// Whether nothing may be delivered on `sid`, of which the subscription was made after so many changes of policy; none
    /// when there is no subscription.
    pub(super) fn bars(&self, sid: &[u8], made_after: Option<u64>) -> bool {
        let Some(under_way) = &self.under_way else {
            return false;
        };
        let stranger = under_way.standing.is_some_and(|change| {
            made_after.is_none_or(|made| made >= change) || self.is_of_the_past(sid)
        });
        stranger || under_way.barred.contains_key(sid)
    }

    const fn count_ping(&mut self) {
        self.sent = self.sent.saturating_add(1);
        self.uncovered = 0;
    }

    /// A PING of the client goes upstream.
    pub(super) fn pinged(&mut self) {
        self.count_ping();
        self.pings = self.pings.saturating_add(1);
    }

    /// A PONG came.
    pub(super) fn ponged(&mut self) -> Pong {
        self.answered = self.answered.saturating_add(1);
        let Some(under_way) = &mut self.under_way else {
            self.pings = self.pings.saturating_sub(1);
            return Pong::Clients;
        };
        let pong = under_way.ponged(self.answered).unwrap_or_else(|| {
            self.pings = self.pings.saturating_sub(1);
            Pong::Clients
        });
        if pong == Pong::Ours {
            self.count = self.count.saturating_sub(1);
        }
        if under_way.is_over() {
            self.under_way = None;
        }
        pong
    }
}

impl UnderWay {
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.leaving.is_empty()
    }

    fn held(&self) -> usize {
        let sids = self.leaving.len().saturating_add(self.barred.len());
        // A barred sid is held with its fence, too.
        self.leaving_bytes
            .saturating_add(self.barred_bytes.saturating_mul(2))
            .saturating_add(sids.saturating_mul(EACH))
    }

    fn leave(&mut self, sid: &[u8], leaving: Leaving) {
        let bytes = self.leaving_bytes.saturating_add(sid.len());
        if let Some(known) = self.leaving.get_mut(sid) {
            *known = leaving;
        } else if bytes <= LEAVING_BYTES_MAX {
            let sid: Arc<[u8]> = sid.into();
            self.leaving.insert(Arc::clone(&sid), leaving);
            self.leaving_bytes = bytes;
            self.by_ping.entry(leaving.before).or_default().push(sid);
        }
    }

    /// So many PINGs are answered: forgets the sids that were given up before the last of those was sent.
    fn arrive(&mut self, answered: u64) {
        while let Some(first) = self.by_ping.first_entry()
            && *first.key() < answered
        {
            for sid in first.remove() {
                let before = self.leaving.get(&sid).map(|leaving| leaving.before);
                match before.filter(|before| *before >= answered) {
                    Some(again) => self.by_ping.entry(again).or_default().push(sid),
                    None => {
                        self.leaving.remove(&sid);
                        self.leaving_bytes = self.leaving_bytes.saturating_sub(sid.len());
                    }
                }
            }
        }
    }

    /// So many PINGs are answered. What that says is known where a fence stands.
    fn ponged(&mut self, answered: u64) -> Option<Pong> {
        self.arrive(answered);
        let first = self.waiting.front_mut()?;
        if first.pongs_before > 0 {
            first.pongs_before = first.pongs_before.saturating_sub(1);
            return Some(Pong::Clients);
        }
        if let Some(fence) = self.waiting.pop_front() {
            fence.sids.iter().for_each(|sid| self.lift(sid));
            self.standing = self.waiting.iter().find_map(|fence| fence.change);
        }
        Some(Pong::Ours)
    }

    fn lift(&mut self, sid: &[u8]) {
        self.barred_bytes = self.barred_bytes.saturating_sub(sid.len());
        if let Some(fences) = self.barred.get_mut(sid) {
            *fences = fences.saturating_sub(1);
            if *fences == 0 {
                self.barred.remove(sid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sids(sids: &[&str]) -> Vec<Box<[u8]>> {
        sids.iter().map(|sid| sid.as_bytes().into()).collect()
    }

    #[test]
    fn pongs_are_told_apart_by_their_order() {
        let mut fences = Fences::default();
        fences.pinged();
        fences.bar(sids(&["1", "2"]));
        fences.pinged();
        fences.bar(sids(&["1"]));
        fences.pinged();
        assert_eq!(fences.ponged(), Pong::Clients);
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!(fences.bars(b"1", None) && !fences.bars(b"2", None));
        assert_eq!(fences.ponged(), Pong::Clients);
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!(!fences.bars(b"1", None));
        assert_eq!(fences.ponged(), Pong::Clients);
    }

    #[test]
    fn pings_answered_before_a_fence_are_not_counted_for_it() {
        let mut fences = Fences::default();
        fences.pinged();
        assert_eq!(fences.ponged(), Pong::Clients);
        fences.bar(sids(&["1"]));
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!(!fences.bars(b"1", None));
    }

    #[test]
    fn a_sid_that_was_given_up_is_known_until_a_later_ping_is_answered() {
        let mut fences = Fences::default();
        fences.pinged();
        assert!(!fences.left(b"1"));
        assert!(fences.is_leaving(b"1") && !fences.is_leaving(b"2"));
        assert_eq!(fences.ponged(), Pong::Clients);
        assert!(fences.is_leaving(b"1"), "that PING was before");
        assert!(fences.taken_up(b"1"));
        fences.bar(Vec::new());
        assert!(!fences.taken_up(b"1") && fences.is_of_the_past(b"1"));
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!(!fences.is_leaving(b"1") && fences.held() == 0);
    }

    #[test]
    fn a_number_leaves_what_comes_to_the_subscription_that_has_the_sid() {
        let mut fences = Fences::default();
        let made = Some(fences.changes());
        assert!(!fences.limited(b"1"));
        assert!(fences.is_leaving(b"1") && !fences.is_of_the_past(b"1"));
        fences.bar_all_but_kept(Vec::new());
        assert!(!fences.bars(b"1", made) && fences.bars(b"1", None));
        assert!(!fences.taken_up(b"1"), "a PING was sent since");
        assert!(fences.is_of_the_past(b"1") && fences.bars(b"1", made));
        assert!(!fences.limited(b"1") && fences.is_of_the_past(b"1"));
    }

    #[test]
    fn barred_sids_are_counted_while_they_are_held() {
        let mut fences = Fences::default();
        let long = "x".repeat(4000);
        fences.bar(sids(&[long.as_str(), "1"]));
        fences.bar(sids(&[long.as_str()]));
        assert!(fences.held() > 3 * long.len(), "{}", fences.held());
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!((2 * long.len()..3 * long.len()).contains(&fences.held()));
        assert_eq!(fences.ponged(), Pong::Ours);
        assert_eq!(fences.held(), 0);
    }

    #[test]
    fn a_sid_that_was_given_up_again_is_known_until_that_is_answered() {
        let mut fences = Fences::default();
        assert!(!fences.left(b"1") && !fences.left(b"2"));
        fences.pinged();
        assert!(!fences.left(b"1"));
        fences.pinged();
        assert_eq!(fences.ponged(), Pong::Clients);
        assert!(fences.is_leaving(b"1") && !fences.is_leaving(b"2"));
        assert_eq!(fences.ponged(), Pong::Clients);
        assert!(!fences.is_leaving(b"1") && fences.held() == 0);
    }

    #[test]
    fn a_pong_costs_no_more_where_many_sids_wait_for_later_ones() {
        let mut fences = Fences::default();
        let (pings, sids) = (5_000, 20_000_u32);
        for _ in 0..pings {
            fences.pinged();
        }
        for sid in 0..sids {
            if fences.left(sid.to_string().as_bytes()) {
                fences.bar(Vec::new());
            }
        }
        let known = fences.under_way.as_ref().map_or(0, |way| way.leaving.len());
        assert!(known > 10_000, "{known}");
        let begun = std::time::Instant::now();
        for _ in 0..pings {
            assert_eq!(fences.ponged(), Pong::Clients);
        }
        // To look at each of them each time would take minutes here.
        assert!(begun.elapsed() < std::time::Duration::from_secs(2));
        while fences.awaits_pong() {
            assert_eq!(fences.ponged(), Pong::Ours);
        }
        assert_eq!(fences.count(), 0);
    }

    #[test]
    fn sids_given_up_are_bounded() {
        let mut fences = Fences::default();
        let long = vec![b'x'; LEAVING_BYTES_MAX];
        assert!(!fences.left(&long));
        assert!(!fences.left(b"1"));
        assert!(fences.is_leaving(&long) && !fences.is_leaving(b"1"));
        assert!(
            (0..UNCOVERED_MAX).any(|_| fences.left(b"2")),
            "upstream is asked"
        );
    }

    #[test]
    fn a_change_of_policy_bars_what_is_under_way_for_the_subscription_before() {
        let mut fences = Fences::default();
        assert!(!fences.left(b"1"));
        fences.bar(Vec::new());
        let again = Some(fences.changes());
        fences.bar_all_but_kept(Vec::new());
        assert!(fences.bars(b"1", again));
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!(!fences.bars(b"1", again), "what comes now is the new one's");
    }

    #[test]
    fn a_change_of_policy_bars_all_that_was_not_there_before() {
        let mut fences = Fences::default();
        let before = Some(fences.changes());
        fences.bar_all_but_kept(sids(&["1"]));
        let between = Some(fences.changes());
        fences.bar_all_but_kept(sids(&[]));
        assert!(fences.stand());
        assert!(fences.bars(b"1", before) && fences.bars(b"9", None));
        assert!(!fences.bars(b"2", before) && fences.bars(b"2", between));
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!(!fences.bars(b"2", between) && fences.bars(b"9", None));
        assert_eq!(fences.ponged(), Pong::Ours);
        assert!(!fences.stand() && !fences.bars(b"9", None));
    }
}
