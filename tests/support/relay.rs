//! A wire that can be cut: a TCP relay in front of a server, so that a test can break a live connection from outside.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Relays every connection to one address until it is cut or dropped.
pub struct Relay {
    address: SocketAddr,
    live: Arc<Live>,
}

struct Live {
    target: Mutex<SocketAddr>,
    stopped: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Live {
    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        let copy = stream.try_clone()?;
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(copy);
        Ok(())
    }

    fn target(&self) -> SocketAddr {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for stream in self
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Relay {
    /// Listens on an ephemeral port of loopback and relays to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let live = Arc::new(Live {
            target: Mutex::new(target),
            stopped: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&live);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::Acquire) {
                    return;
                }
                // A target that is gone is a closed connection to the client, as it would be without us.
                relay(client, accepting.target(), &accepting).ok();
            }
        });
        Self { address, live }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Relays new connections to `target` from now on. Those that are open stay where they are.
    pub fn retarget(&self, target: SocketAddr) {
        *self
            .live
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Closes every connection that is open now, both ways. New ones are relayed as before.
    pub fn cut(&self) {
        self.live.cut();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.live.stopped.store(true, Ordering::Release);
        self.live.cut();
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

fn relay(client: TcpStream, target: SocketAddr, live: &Live) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        live.keep(stream)?;
    }
    one_way(client.try_clone()?, server.try_clone()?);
    one_way(server, client);
    Ok(())
}

fn one_way(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    });
}
