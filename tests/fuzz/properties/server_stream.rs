//! The stream of an upstream: what the client gets of it is well-formed, holds nothing that is denied, and does not depend
//! on how the stream was cut.

use std::sync::LazyLock;

use natsentry::session::CloseReason;
use natsentry::subject::is_subset;
use serde_json::json;

use super::client_stream::cut;
use super::front::{Front, World};
use super::peer::{self, Said};
use super::server::Settings;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let role = json!({
        "publish": [">"], "subscribe": [">"], "inbox": "off", "deny": { "subscribe": ["secret.>"] },
        "respond": { "max": 1, "ttl": "1m" },
    });
    World::new(&role, Settings::default())
});

/// The first byte cuts, the rest is the stream.
pub fn server_stream(data: &[u8]) {
    let [cuts, stream @ ..] = data else { return };
    let whole = through(&[stream]);
    let cut = through(&cut(stream, u64::from(*cuts)));
    assert_eq!(whole.close(), cut.close(), "cuts make a difference");
    if cut.close().is_none() {
        assert_eq!(whole.session.traffic(), cut.session.traffic());
    }
    let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
    // What is unfinished when the session ends was passed on as far as it had come.
    let same = whole.to_client == cut.to_client
        || (whole.close().is_some()
            && (whole.to_client.starts_with(&cut.to_client)
                || cut.to_client.starts_with(&whole.to_client)));
    assert!(
        same,
        "{} and {}",
        show(&whole.to_client),
        show(&cut.to_client)
    );
    let (said, rest) =
        peer::read(&cut.to_client).unwrap_or_else(|why| panic!("the client gets {why}"));
    for said in &said {
        match said {
            Said::Message { subject, .. } => assert!(!is_subset(subject, b"secret.>"), "{said:?}"),
            Said::Error(text) => assert!(text.len() < 300 * 1024),
            Said::Info(_) | Said::Ok | Said::Ping | Said::Pong => {}
        }
    }
    let count = said
        .iter()
        .filter(|said| matches!(said, Said::Message { .. }))
        .count() as u64;
    let counted = cut.session.traffic().messages_out;
    assert!(
        counted == count || (counted == count + 1 && (!rest.is_empty() || cut.close().is_some())),
        "{counted} counted, {count} there"
    );
    if let Some(reason) = cut.close() {
        assert!(
            matches!(
                reason,
                CloseReason::UpstreamProtocol | CloseReason::UpstreamError
            ),
            "{reason:?}"
        );
    }
}

fn through(pieces: &[&[u8]]) -> Front {
    let mut front = Front::serving(&WORLD);
    front.client(b"SUB > 1\r\nSUB a.* 2\r\nUNSUB 2 3\r\nPING\r\nPUB foo 1\r\nx\r\n");
    front.to_upstream.clear();
    front.to_client.clear();
    for piece in pieces {
        front.upstream(piece);
    }
    front
}
