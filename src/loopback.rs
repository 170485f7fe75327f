//! Connections that never leave the machine. Congestion control has nothing to do for them, and what the machine is set to
//! for its network can cost more than all else: BBR paces each connection by timers (`net/ipv4/tcp_bbr.c`).

use std::net::IpAddr;
use std::os::fd::AsFd;

use socket2::SockRef;

/// The one that each kernel has and gives to everybody, and that does the least (tcp(7), `tcp_allowed_congestion_control`).
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
const CONTROL: &[u8] = b"reno";

/// Sets what a connection to or from `address` sends by, if that is loopback, and tells whether it is; connections that a
/// listener accepts inherit it.
///
/// Where the kernel refuses, it stays what it is: that works as well and only costs more.
pub fn tune(socket: &impl AsFd, address: IpAddr) -> bool {
    let is_loopback = is_loopback(address);
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    if is_loopback {
        let _ = SockRef::from(socket).set_tcp_congestion(CONTROL);
    }
    is_loopback
}

/// `::ffff:127.0.0.1` is what a listener on `[::]` says of 127.0.0.1.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    /// Where the machine's own is Reno, another one that it has.
    fn set_otherwise(socket: &impl AsFd) {
        let socket = SockRef::from(socket);
        if is_reno(&socket) {
            let _ = socket.set_tcp_congestion(b"cubic");
        }
    }

    fn is_reno(socket: &SockRef<'_>) -> bool {
        socket.tcp_congestion().unwrap().starts_with(b"reno\0")
    }

    #[test]
    fn what_a_listener_on_loopback_accepts_goes_by_reno() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        set_otherwise(&listener);
        tune(&listener, address.ip());
        let _client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(is_reno(&SockRef::from(&accepted)));
    }

    #[test]
    fn mapped_loopback_is_loopback() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        set_otherwise(&socket);
        tune(&socket, Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
        assert!(is_reno(&SockRef::from(&socket)));
    }

    #[test]
    fn connections_across_a_network_stay_as_the_machine_is_set() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        set_otherwise(&socket);
        let before = SockRef::from(&socket).tcp_congestion().unwrap();
        tune(&socket, Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(SockRef::from(&socket).tcp_congestion().unwrap(), before);
    }
}
