//! The INFO with which clients are greeted before there is a connection for them: the last one that a server of the
//! upstream sent us. Rewriting it for clients is the session's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;

use crate::wire::ServerInfo;

/// The template of one upstream.
pub(super) struct Template {
    current: ArcSwapOption<ServerInfo>,
    /// `max_payload` of our account, which may be lower than the server's; 0 where none is known, as in INFO.
    account_payload: AtomicI64,
}

impl Template {
    pub(super) const fn new() -> Self {
        Self {
            current: ArcSwapOption::const_empty(),
            account_payload: AtomicI64::new(0),
        }
    }

    /// What the server said, as far as it is true of any connection; `max_payload` is that of our account.
    pub(super) fn current(&self) -> Option<Arc<ServerInfo>> {
        self.current.load_full()
    }

    /// A probe went through: `info.max_payload` is that of our account.
    pub(super) fn probed(&self, info: &ServerInfo) {
        self.account_payload
            .store(info.max_payload, Ordering::Relaxed);
        self.replace(info);
    }

    /// A client's dial went through: taken over when it is another server, or another version of it.
    pub(super) fn dialled(&self, info: &ServerInfo) {
        let known = self.current.load().as_ref().is_some_and(|known| {
            known.server_id == info.server_id && known.version == info.version
        });
        if !known {
            self.replace(info);
        }
    }

    /// What an older set of upstreams knew, until there is news.
    pub(super) fn inherit(&self, other: &Self) {
        self.account_payload.store(
            other.account_payload.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
        self.current.store(other.current.load_full());
    }

    fn replace(&self, info: &ServerInfo) {
        let mut info = info.clone();
        // What is true of this connection is not true of the one to come.
        info.connect_info = false;
        info.ldm = false;
        let payload = self.account_payload.load(Ordering::Relaxed);
        if payload != 0 {
            info.max_payload = payload;
        }
        self.current.store(Some(Arc::new(info)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(server: &str, max_payload: i64) -> ServerInfo {
        ServerInfo {
            server_id: server.to_owned(),
            version: "2.9.10".to_owned(),
            max_payload,
            connect_info: true,
            ..ServerInfo::default()
        }
    }

    #[test]
    fn the_first_info_is_taken_and_a_later_one_of_another_server_replaces_it() {
        let template = Template::new();
        assert!(template.current().is_none());
        template.dialled(&info("A", 100));
        let kept = template.current().unwrap();
        assert!(!kept.connect_info);
        template.dialled(&info("A", 100));
        assert!(Arc::ptr_eq(&kept, &template.current().unwrap()));
        template.dialled(&info("B", 100));
        assert_eq!(template.current().unwrap().server_id, "B");
    }

    #[test]
    fn the_payload_limit_of_our_account_wins_over_the_servers() {
        let template = Template::new();
        template.probed(&info("A", 1024));
        assert_eq!(template.current().unwrap().max_payload, 1024);
        template.dialled(&info("B", 1_048_576));
        assert_eq!(template.current().unwrap().max_payload, 1024);
        let next = Template::new();
        next.inherit(&template);
        assert_eq!(next.current(), template.current());
        // A server that says nothing of it any more leaves nothing known.
        template.probed(&info("B", 0));
        template.dialled(&info("C", 1_048_576));
        assert_eq!(template.current().unwrap().max_payload, 1_048_576);
    }
}
