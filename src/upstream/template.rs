//! The INFO with which clients are greeted before there is a connection for them: the last one that a server of the
//! upstream sent us. Rewriting it for clients is the session's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;

use super::documents::Info;

/// The template of one upstream.
pub(super) struct Template {
    cached: ArcSwapOption<Cached>,
    /// `max_payload` of our account, which may be lower than the server's; none known: [`NOT_KNOWN`].
    account_payload: AtomicI64,
}

struct Cached {
    json: Arc<[u8]>,
    server_id: Box<str>,
    version: Box<str>,
}

impl Template {
    pub(super) const fn new() -> Self {
        Self {
            cached: ArcSwapOption::const_empty(),
            account_payload: AtomicI64::new(NOT_KNOWN),
        }
    }

    /// INFO JSON, as text of the server but for `max_payload`.
    pub(super) fn current(&self) -> Option<Arc<[u8]>> {
        self.cached
            .load()
            .as_ref()
            .map(|cached| Arc::clone(&cached.json))
    }

    /// A probe went through: `info.max_payload` is that of our account.
    pub(super) fn probed(&self, json: &[u8], info: &Info) {
        self.account_payload
            .store(info.max_payload.unwrap_or(NOT_KNOWN), Ordering::Relaxed);
        self.replace(json, info);
    }

    /// A client's dial went through: taken over when it is another server, or another version of it.
    pub(super) fn dialled(&self, json: &[u8], info: &Info) {
        let known = self.cached.load().as_ref().is_some_and(|cached| {
            cached.server_id == info.server_id && cached.version == info.version
        });
        if !known {
            self.replace(json, info);
        }
    }

    /// What an older set of upstreams knew, until there is news.
    pub(super) fn inherit(&self, other: &Self) {
        self.account_payload.store(
            other.account_payload.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
        self.cached.store(other.cached.load_full());
    }

    fn replace(&self, json: &[u8], info: &Info) {
        let payload = self.account_payload.load(Ordering::Relaxed);
        let json = with_max_payload(json, payload).map_or_else(|| json.into(), Arc::from);
        self.cached.store(Some(Arc::new(Cached {
            json,
            server_id: info.server_id.clone(),
            version: info.version.clone(),
        })));
    }
}

/// The document with another `max_payload`; none when it is that already, or nothing is known.
fn with_max_payload(json: &[u8], payload: i64) -> Option<Vec<u8>> {
    if payload == NOT_KNOWN {
        return None;
    }
    let mut document: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).ok()?;
    let field = document.get_mut("max_payload")?;
    if field.as_i64() == Some(payload) {
        return None;
    }
    *field = payload.into();
    serde_json::to_vec(&document).ok()
}

const NOT_KNOWN: i64 = i64::MIN;

#[cfg(test)]
mod tests {
    use super::*;

    fn info(server: &str, max_payload: i64) -> (Vec<u8>, Info) {
        let json = format!(
            r#"{{"server_id":"{server}","version":"2.9.10","nonce":"x","max_payload":{max_payload}}}"#
        );
        let info = Info::parse(json.as_bytes()).unwrap();
        (json.into_bytes(), info)
    }

    fn text(template: &Template) -> String {
        String::from_utf8(template.current().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn the_first_info_is_taken_and_a_later_one_of_another_server_replaces_it() {
        let template = Template::new();
        assert!(template.current().is_none());
        let (json, parsed) = info("A", 100);
        template.dialled(&json, &parsed);
        let kept = template.current().unwrap();
        template.dialled(&json, &parsed);
        assert!(Arc::ptr_eq(&kept, &template.current().unwrap()));
        let (json, parsed) = info("B", 100);
        template.dialled(&json, &parsed);
        assert!(text(&template).contains(r#""server_id":"B""#));
    }

    #[test]
    fn the_payload_limit_of_our_account_wins_over_the_servers() {
        let template = Template::new();
        let (json, mut parsed) = info("A", 1_048_576);
        parsed.max_payload = Some(1024);
        template.probed(&json, &parsed);
        assert!(text(&template).contains(r#""max_payload":1024"#));
        let (json, parsed) = info("B", 1_048_576);
        template.dialled(&json, &parsed);
        assert!(text(&template).contains(r#""max_payload":1024"#));
        let next = Template::new();
        next.inherit(&template);
        assert_eq!(text(&next), text(&template));
    }
}
