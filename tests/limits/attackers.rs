//! Connections that come back whenever they are thrown out, and tasks that end with what holds them.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

/// Tasks that end when this is dropped.
pub(crate) struct Crowd {
    tasks: JoinSet<()>,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn add(&mut self, doing: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(doing);
    }

    /// Does it again and again.
    pub(crate) fn add_persistent<F: Future<Output = ()> + Send>(
        &mut self,
        doing: impl Fn() -> F + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            loop {
                doing().await;
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
}
