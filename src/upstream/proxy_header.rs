//! The PROXY protocol header, version 2 (HAProxy `proxy-protocol.txt` section 2.2). Pure; reads nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Longest header made here: signature and fixed part 16 bytes, two IPv6 addresses and ports 36.
const LONGEST: usize = 16 + 36;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const VERSION_2_LOCAL: u8 = 0x20;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Header for a connection on behalf of `client`, who reached us at `listener`. IPv4 addresses in IPv6 clothes
/// (`::ffff:a.b.c.d`, as dual-stack sockets show them) are sent as IPv4; where only one of the two is IPv4, both go as
/// IPv6.
#[must_use]
pub fn proxy_v2(client: SocketAddr, listener: SocketAddr) -> Vec<u8> {
    let mut header = Vec::with_capacity(LONGEST);
    header.extend_from_slice(&SIGNATURE);
    header.push(VERSION_2_PROXY);
    match (client.ip().to_canonical(), listener.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend_from_slice(&[TCP_OVER_IPV4, 0, 12]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
        }
        (from, to) => {
            header.extend_from_slice(&[TCP_OVER_IPV6, 0, 36]);
            header.extend_from_slice(&six(from).octets());
            header.extend_from_slice(&six(to).octets());
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&listener.port().to_be_bytes());
    header
}

/// Header for a connection of our own (a health check): the server is to use the connection's real addresses.
#[must_use]
pub fn proxy_v2_local() -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[VERSION_2_LOCAL, 0, 0, 0]);
    header
}

fn six(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_header_is_the_one_that_nats_server_accepts() {
        let expected = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21\x11\x00\x0C\
            \xCB\x00\x71\x09\x0A\x00\x00\x01\x04\xD2\x10\x7E";
        assert_eq!(
            proxy_v2(address("203.0.113.9:1234"), address("10.0.0.1:4222")),
            expected
        );
        assert_eq!(
            proxy_v2(
                address("[::ffff:203.0.113.9]:1234"),
                address("[::ffff:10.0.0.1]:4222")
            ),
            expected
        );
    }

    #[test]
    fn ipv6_header_carries_both_addresses_and_ports() {
        let header = proxy_v2(address("[2001:db8::1]:258"), address("[::1]:4222"));
        assert_eq!(header.len(), 52);
        assert_eq!(&header[12..16], b"\x21\x21\x00\x24");
        assert_eq!(&header[16..18], b"\x20\x01");
        assert_eq!(&header[48..52], b"\x01\x02\x10\x7E");
    }

    #[test]
    fn addresses_of_two_families_go_as_ipv6() {
        let header = proxy_v2(address("192.0.2.1:1"), address("[2001:db8::1]:2"));
        assert_eq!(header[13], 0x21);
        assert_eq!(&header[26..32], b"\xff\xff\xc0\x00\x02\x01");
    }

    #[test]
    fn local_header_has_no_addresses() {
        assert_eq!(proxy_v2_local(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
