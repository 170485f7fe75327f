//! Connections that come back whenever they are thrown out, and tasks that end with what holds them.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Tasks that end when this is dropped.
///
/// They run on threads of their own, at the lowest priority: attackers have machines of their own, and what these do with
/// the one that they share with natsentry and its clients is not what is measured.
pub(crate) struct Crowd {
    tasks: JoinSet<()>,
    threads: Option<Runtime>,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        let threads = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(|| {
                rustix::process::nice(19).expect("anybody may be nice");
            })
            .build()
            .expect("threads");
        Self {
            tasks: JoinSet::new(),
            threads: Some(threads),
        }
    }

    pub(crate) fn add(&mut self, doing: impl Future<Output = ()> + Send + 'static) {
        let threads = self.threads.as_ref().expect("until it is dropped");
        self.tasks.spawn_on(doing, threads.handle());
    }

    /// Does it again and again.
    pub(crate) fn add_persistent<F: Future<Output = ()> + Send>(
        &mut self,
        doing: impl Fn() -> F + Send + 'static,
    ) {
        self.add(async move {
            loop {
                doing().await;
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tasks.abort_all();
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
