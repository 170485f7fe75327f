//! The main job, end to end.

use natsentry::demo::servers::Version;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::Wire;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_from_one_identity_to_another() {
    let idp = proxy::idp().await;
    for version in Version::ALL {
        let nats = servers::start(version, STATIC_USER);
        let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
        let (mut alice, info) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
        assert!(info.contains("\"auth_required\":true"), "{info}");
        let (mut bob, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "bob")).await;
        bob.send("SUB orders.> 1\r\n").await;
        assert!(bob.until_pong().await.is_empty());
        alice.send("PUB orders.new 5\r\nhello\r\n").await;
        assert!(alice.until_pong().await.is_empty());
        assert_eq!(bob.answer().await.as_deref(), Some("MSG orders.new 1 5"));
        assert_eq!(bob.answer().await.as_deref(), Some("hello"));
        drop(proxy.stop().await);
    }
}
