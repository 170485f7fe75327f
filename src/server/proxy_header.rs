//! The PROXY protocol header in front of a client connection: where a balancer says who really connects.
//!
//! Only from trusted addresses; from anybody else it is either refused (`require`) or read as what it would be without
//! it: the first bytes of a client, which no NATS parser takes.
//!
//! Source: haproxy `doc/proxy-protocol.txt`, versions 1 and 2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::ProxyProtocolConfig;

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, and two bytes of length.
const FIXED: usize = 16;

/// Longest version 2 header taken, in bytes: addresses of 216 bytes at most, and TLVs.
const V2_MAX: usize = 2048;

/// Longest version 1 line, CR LF included.
const V1_MAX: usize = 107;

/// How long a client from a trusted address may take to begin with a header where it need not have one.
const WAIT: Duration = Duration::from_millis(50);

/// The client's address: the one that a header from a trusted `peer` names, else the peer's.
///
/// # Errors
/// When a header must be there and is not, when it is malformed, or when the peer is not trusted and must be.
pub(super) async fn client_address(
    tcp: &mut TcpStream,
    peer: SocketAddr,
    config: Option<&ProxyProtocolConfig>,
) -> io::Result<SocketAddr> {
    let Some(config) = config else {
        return Ok(peer);
    };
    let ip = peer.ip().to_canonical();
    if !config.trusted.iter().any(|range| range.contains(ip)) {
        return if config.required {
            Err(refused())
        } else {
            Ok(peer)
        };
    }
    if !config.required {
        let mut first = [0];
        match timeout(WAIT, tcp.peek(&mut first)).await {
            Ok(Ok(1)) if matches!(first, [b'\r' | b'P']) => {}
            // No header, or none in time: a client that waits for INFO.
            _ => return Ok(peer),
        }
    }
    Ok(read(tcp, config.required).await?.unwrap_or(peer))
}

fn refused() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "no or no valid PROXY protocol header",
    )
}

/// Reads a header; none when it names no address (health checks of the balancer), or where there is none.
async fn read(tcp: &mut TcpStream, required: bool) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; V1_MAX];
    loop {
        let seen = tcp.peek(&mut start).await?;
        let head = start.get(..seen).unwrap_or_default();
        if seen == 0 {
            return Err(refused());
        }
        let may_be = |whole: &[u8]| head.iter().zip(whole).all(|(a, b)| a == b);
        if may_be(&SIGNATURE) {
            return read_v2(tcp).await;
        }
        if !may_be(b"PROXY ") {
            return if required { Err(refused()) } else { Ok(None) };
        }
        if let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") {
            let mut line = vec![0; end.saturating_add(2)];
            tcp.read_exact(&mut line).await?;
            return parse_v1(line.get(..end).unwrap_or_default()).ok_or_else(refused);
        }
        if seen == V1_MAX {
            return Err(refused());
        }
        // The rest of a line is under way; there is no event for "more bytes than now".
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn read_v2(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; FIXED];
    tcp.read_exact(&mut fixed).await?;
    let [signature @ .., version, family, high, low] = fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if signature != SIGNATURE || len > V2_MAX {
        return Err(refused());
    }
    let mut rest = vec![0; len];
    tcp.read_exact(&mut rest).await?;
    parse_v2(version, family, &rest).ok_or_else(refused)
}

/// The source address of version 2; the inner none is LOCAL. Anything but TCP is refused.
fn parse_v2(version: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match (version, family) {
        (0x20, _) => Some(None),
        (0x21, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *rest.first_chunk::<12>()?;
            let port = u16::from_be_bytes([high, low]);
            Some(Some((Ipv4Addr::new(a, b, c, d), port).into()))
        }
        (0x21, 0x21) => {
            let source = *rest.first_chunk::<16>()?;
            let [high, low] = *rest.get(32..36)?.first_chunk::<2>()?;
            let ip = IpAddr::V6(Ipv6Addr::from(source)).to_canonical();
            Some(Some((ip, u16::from_be_bytes([high, low])).into()))
        }
        _ => None,
    }
}

/// The source address of version 1; the inner none is UNKNOWN.
fn parse_v1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let rest: Vec<&str> = words.collect();
    let [source, destination, port, destination_port] = *rest.as_slice() else {
        return None;
    };
    let ip = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            IpAddr::V4(source.parse().ok()?)
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            IpAddr::V6(source.parse().ok()?).to_canonical()
        }
        _ => return None,
    };
    destination_port.parse::<u16>().ok()?;
    Some(Some((ip, port.parse().ok()?).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_lines_are_read() {
        let read = |line: &str| parse_v1(line.as_bytes());
        let address = "203.0.113.7:34567".parse().unwrap();
        assert_eq!(
            read("PROXY TCP4 203.0.113.7 10.0.0.1 34567 4222"),
            Some(Some(address))
        );
        let address = "[2001:db8::7]:1".parse().unwrap();
        assert_eq!(
            read("PROXY TCP6 2001:db8::7 ::1 1 4222"),
            Some(Some(address))
        );
        assert_eq!(read("PROXY UNKNOWN whatever"), Some(None));
        for bad in [
            "PROXY TCP4 ::1 10.0.0.1 1 2",
            "PROXY TCP4 1.2.3.4 10.0.0.1 1",
            "PROXY TCP4 1.2.3.4 10.0.0.1 99999 2",
            "PROXY UDP4 1.2.3.4 10.0.0.1 1 2",
            "proxy TCP4 1.2.3.4 10.0.0.1 1 2",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn version_2_headers_are_read() {
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x04, 0xD2, 0x10, 0x7E];
        assert_eq!(
            parse_v2(0x21, 0x11, &v4),
            Some(Some("203.0.113.9:1234".parse().unwrap()))
        );
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        v6[32..34].copy_from_slice(&80_u16.to_be_bytes());
        assert_eq!(
            parse_v2(0x21, 0x21, &v6),
            Some(Some("[::1]:80".parse().unwrap()))
        );
        assert_eq!(parse_v2(0x20, 0, &[]), Some(None));
        assert_eq!(parse_v2(0x21, 0x11, &v4[..11]), None);
        assert_eq!(parse_v2(0x21, 0x12, &v4), None, "UDP");
        assert_eq!(parse_v2(0x31, 0x11, &v4), None, "another version");
    }
}
