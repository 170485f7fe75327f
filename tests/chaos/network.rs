//! A path of the network, as its ends see it: a relay that can cut, stand still, refuse, and be slow and lossy.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Weather {
    Fine = 0,
    /// Nothing moves, and nobody is told.
    Still = 1,
    /// 200 ms a piece, and one in twenty is lost and sent again.
    Bad = 2,
    /// New connections are closed at once.
    Refusing = 3,
}

/// What a piece takes in bad weather, and what its retransmission takes besides.
const DELAY: Duration = Duration::from_millis(200);
const RETRANSMISSION: Duration = Duration::from_millis(400);

/// Between two looks at the weather while nothing moves.
const LOOK: Duration = Duration::from_millis(10);

/// A path to one address.
#[derive(Clone)]
pub(crate) struct Path {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    weather: AtomicU8,
    pieces: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn weather(&self) -> Weather {
        match self.weather.load(Ordering::Acquire) {
            1 => Weather::Still,
            2 => Weather::Bad,
            3 => Weather::Refusing,
            _ => Weather::Fine,
        }
    }

    /// What the weather makes of one piece.
    fn pass(&self) {
        while self.weather() == Weather::Still {
            thread::sleep(LOOK);
        }
        if self.weather() == Weather::Bad {
            thread::sleep(DELAY);
            if self
                .pieces
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(20)
            {
                thread::sleep(RETRANSMISSION);
            }
        }
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        let copy = stream.try_clone()?;
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are over are of no use.
        streams.retain(|stream| stream.peer_addr().is_ok());
        streams.push(copy);
        Ok(())
    }
}

impl Path {
    /// Listens on loopback, and relays to `target` for as long as this process lives.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            weather: AtomicU8::new(0),
            pieces: AtomicU64::new(0),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.weather() == Weather::Refusing {
                    continue;
                }
                let shared = Arc::clone(&accepting);
                // A target that is not there is a closed connection.
                thread::spawn(move || relay(&client, target, &shared).ok());
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn turn(&self, weather: Weather) {
        self.shared.weather.store(weather as u8, Ordering::Release);
    }

    /// Ends every connection that is open now.
    pub(crate) fn cut(&self) {
        let mut streams = self
            .shared
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn relay(client: &TcpStream, target: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    shared.pass();
    let server = TcpStream::connect(target)?;
    for stream in [client, &server] {
        stream.set_nodelay(true)?;
        shared.keep(stream)?;
    }
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let there = Arc::clone(shared);
    thread::spawn(move || one_way(from_client, to_server, &there));
    one_way(server, client.try_clone()?, shared);
    Ok(())
}

fn one_way(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut piece) {
        shared.pass();
        if count == 0 || to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
