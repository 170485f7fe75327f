//! A client that minds its own business, and how long its messages take.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::talk::Talk;
use crate::world::World;

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(2);

const BODY: usize = 128;

/// A session that publishes to itself.
pub(crate) struct Honest {
    talk: Talk,
}

impl Honest {
    pub(crate) async fn enter(world: &World) -> Self {
        let mut talk = world.enter("worker").await.expect("a session");
        talk.send("SUB honest 1\r\nPING\r\n").await.expect("sent");
        assert_eq!(talk.answer().await.as_deref(), Some("PONG"));
        Self { talk }
    }

    /// The 99th percentile of the way there and back, over this long.
    pub(crate) async fn p99(&mut self, during: Duration) -> Duration {
        let mut taken = Vec::new();
        let (end, body) = (Instant::now() + during, vec![b'h'; BODY]);
        let publish = [format!("PUB honest {BODY}\r\n").as_bytes(), &body, b"\r\n"].concat();
        while Instant::now() < end || taken.len() < 100 {
            let began = Instant::now();
            self.talk.send(&publish).await.expect("still served");
            let line = self.talk.answer().await.expect("still served");
            assert_eq!(line, format!("MSG honest 1 {BODY}"));
            let mut payload = vec![0; BODY + 2];
            self.talk.exactly(&mut payload).await;
            taken.push(began.elapsed());
            sleep(PAUSE).await;
        }
        taken.sort_unstable();
        taken[taken.len() * 99 / 100]
    }
}
