//! Looks at the source of locks all the time, puts in force what has changed there, and cuts.
//!
//! Must never: wait for anything but the source. Sessions that are slow to hear of a lock, and an audit that cannot be
//! written, must not keep the next lock from coming into force.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::Shared;
use super::{cut, lock};
use crate::clock;
use crate::locks::Document;
use crate::revocation::Look;
use crate::time::Timestamp;

/// How often the source is looked at, which is how late a lock may be noticed.
const LOOK: Duration = Duration::from_millis(200);

/// How long a look may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the source of locks until `stop`.
pub(in crate::server) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut watched = Watched {
        looked_at: clock::now(),
        next_end: None,
        looking: None,
    };
    watched.put_in_force(&shared, None);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        watched.turn(&shared).await;
    }
}

struct Watched {
    looked_at: Timestamp,
    next_end: Option<Timestamp>,
    /// A look that has taken longer than it may.
    looking: Option<JoinHandle<Look>>,
}

impl Watched {
    async fn turn(&mut self, shared: &Arc<Shared>) {
        let changed = match self.look(shared).await {
            Ok(Look::Changed(document)) => Some(document),
            Ok(Look::Same) => None,
            Ok(Look::Failed(error)) => {
                shared.locks.note_failure(Some(error.to_string()));
                self.by_the_clock(shared);
                return;
            }
            Err(why) => {
                shared.locks.note_failure(Some(why));
                self.by_the_clock(shared);
                return;
            }
        };
        shared.locks.note_failure(None);
        match changed {
            Some(document) => self.put_in_force(shared, Some(document)),
            None => self.by_the_clock(shared),
        }
    }

    /// Looks at the source, on a thread that may wait: a file system need not answer.
    async fn look(&mut self, shared: &Shared) -> Result<Look, String> {
        let looking = self.looking.get_or_insert_with(|| {
            let source = Arc::clone(&shared.locks.source);
            tokio::task::spawn_blocking(move || lock(&source).look(clock::now()))
        });
        let looked = timeout(PATIENCE, looking).await.map_err(|_| {
            format!(
                "looking at the file has taken more than {} s",
                PATIENCE.as_secs()
            )
        })?;
        self.looking = None;
        looked.map_err(|error| format!("looking at the file: {error}"))
    }

    /// A lock may have ended; or begun again, when the clock was set back.
    fn by_the_clock(&mut self, shared: &Arc<Shared>) {
        let now = clock::now();
        let set_back = now < self.looked_at;
        let ended = self.next_end.is_some_and(|end| end <= now);
        self.looked_at = now;
        if set_back || ended {
            self.put_in_force(shared, None);
        }
    }

    fn put_in_force(&mut self, shared: &Arc<Shared>, changed: Option<Document>) {
        let lifted = changed.map(|document| {
            shared.locks.exchange(document.locks);
            document.lifted
        });
        let taken = cut(shared);
        let set = shared.locks.current();
        self.next_end = set.next_end(clock::now());
        shared.locks.news.add(set, taken, lifted);
    }
}
