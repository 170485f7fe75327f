//! One piece of work per key at a time: whoever asks for the same joins, and it goes on when the askers have gone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Work under way.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    under_way: Mutex<HashMap<K, watch::Receiver<Option<V>>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            under_way: Mutex::default(),
            tasks,
            stop,
        }
    }

    /// Joins the work for `key`, or begins it.
    pub(super) fn join<F>(self: &Arc<Self>, key: K, begin: impl FnOnce() -> F) -> Landing<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way();
        if let Some(result) = under_way.get(&key) {
            return Landing(result.clone());
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        drop(under_way);
        let work = begin();
        let leaving = Leaving(Arc::clone(self), key);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let value = tokio::select! {
                () = stop.cancelled() => None,
                value = work => Some(value),
            };
            // First off the table, so that whoever comes after the result begins anew.
            drop(leaving);
            sender.send_replace(value);
        });
        Landing(receiver)
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<K, watch::Receiver<Option<V>>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result to come.
#[derive(Debug)]
pub(super) struct Landing<V>(watch::Receiver<Option<V>>);

impl<V: Clone> Landing<V> {
    /// The result; none when the work was broken off.
    pub(super) async fn result(mut self) -> Option<V> {
        let value = self.0.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

/// Takes the key off the table, also when the work panics.
struct Leaving<K: Clone + Eq + Hash, V>(Arc<Flights<K, V>>, K);

impl<K: Clone + Eq + Hash, V> Drop for Leaving<K, V> {
    fn drop(&mut self) {
        let mut under_way = self
            .0
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_askers_share_one_piece_of_work_which_outlives_them() {
        let stop = CancellationToken::new();
        let flights = Arc::new(Flights::new(TaskTracker::new(), stop.clone()));
        let begun = Arc::new(AtomicUsize::new(0));
        let (go, wait) = watch::channel(false);
        let join = |key: u8| {
            flights.join(key, || {
                begun.fetch_add(1, Ordering::SeqCst);
                let mut wait = wait.clone();
                async move {
                    wait.wait_for(|go| *go).await.unwrap();
                    key
                }
            })
        };
        let landings: Vec<_> = (0..50).map(|_| join(1)).collect();
        drop(join(2));
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        go.send_replace(true);
        for landing in landings {
            assert_eq!(landing.result().await, Some(1));
        }
        assert_eq!(join(1).result().await, Some(1));
        assert_eq!(begun.load(Ordering::SeqCst), 3);
        stop.cancel();
        let never = flights.join(9, std::future::pending::<u8>);
        assert_eq!(never.result().await, None);
    }
}
