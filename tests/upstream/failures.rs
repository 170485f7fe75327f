//! Servers that misbehave: whatever they send or leave out, the dial ends in time, in words, with bounded memory.

use std::net::SocketAddr;
use std::time::Duration;

use natsentry::upstream::{Auth, DialError, Step, TlsFirst, UpstreamConfig};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::certificates::Certificates;
use crate::support::{config, dial, fails, upstreams};

const INFO: &str = "INFO {\"server_id\":\"X\",\"version\":\"2.9.10\",\"headers\":true} \r\n";

/// What a scripted server does with each connection.
#[derive(Clone)]
enum Script {
    /// Sends this, then waits for the other side to close.
    Send(Vec<u8>),
    /// Sends this and closes.
    SendAndClose(Vec<u8>),
    /// Greets, reads CONNECT and PING, answers this.
    Answer(Vec<u8>),
}

async fn play(script: Script, mut stream: TcpStream) -> std::io::Result<()> {
    let mut sink = Vec::new();
    match script {
        Script::Send(bytes) => {
            stream.write_all(&bytes).await?;
            stream.read_to_end(&mut sink).await.map(drop)
        }
        Script::SendAndClose(bytes) => stream.write_all(&bytes).await,
        Script::Answer(bytes) => {
            stream.write_all(INFO.as_bytes()).await?;
            while !sink.ends_with(b"PING\r\n") {
                if stream.read_buf(&mut sink).await? == 0 {
                    return Ok(());
                }
            }
            stream.write_all(&bytes).await?;
            stream.read_to_end(&mut sink).await.map(drop)
        }
    }
}

/// An upstream with one scripted server and half a second for a dial.
async fn scripted(scheme: &str, script: Script) -> UpstreamConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(script.clone(), stream));
        }
    });
    let url = format!("{scheme}://localhost:{}", address.port())
        .parse()
        .unwrap();
    UpstreamConfig {
        dial_timeout: Duration::from_millis(500),
        ..config(vec![url], Auth::None)
    }
}

async fn failure(script: Script) -> DialError {
    let began = Instant::now();
    let error = fails(scripted("nats", script).await).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{error}: {:?}",
        began.elapsed()
    );
    assert!(error.to_string().len() < 500, "{error}");
    error
}

#[tokio::test]
async fn what_is_not_nats_is_named_for_what_it_is() {
    for (bytes, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP/1.1"),
        (b"\x00\x01\x02\xff\xfe", "\\x00"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "it speaks TLS"),
        (b"INFO {\"version\":5}\r\n", "INFO with"),
    ] {
        let error = failure(Script::Send(bytes.to_vec())).await;
        assert!(matches!(error, DialError::Protocol { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_info_of_a_mebibyte_is_not_read_to_its_end() {
    let mut info = b"INFO {\"server_id\":\"".to_vec();
    info.resize(1024 * 1024, b'a');
    info.extend_from_slice(b"\"}\r\n");
    let error = failure(Script::Send(info)).await;
    assert!(error.to_string().contains("65536"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_speaks_is_given_up_at_the_deadline() {
    let error = failure(Script::Send(Vec::new())).await;
    assert!(matches!(error, DialError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("before it sent INFO"), "{error}");
    let error = failure(Script::Answer(Vec::new())).await;
    assert!(error.to_string().contains("to CONNECT"), "{error}");
}

/// A server of the address as it stands: INFO is waited for from the start, and the connection shows in it.
fn at(address: SocketAddr, dial_timeout: Duration) -> UpstreamConfig {
    let url = format!("nats://{address}").parse().unwrap();
    UpstreamConfig {
        dial_timeout,
        ..config(vec![url], Auth::None)
    }
}

#[tokio::test]
async fn what_becomes_of_a_connection_is_told_from_what_the_server_does_with_it() {
    let half = Duration::from_millis(500);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = fails(at(address, half)).await;
    assert!(error.to_string().contains("before it sent INFO"), "{error}");
    assert!(matches!(error, DialError::Timeout { .. }), "{error}");

    let reset = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_zero_linger().unwrap();
        }
    });
    let error = fails(at(address, half)).await;
    assert!(
        matches!(
            error,
            DialError::Closed {
                step: Step::Info,
                ..
            }
        ),
        "{error}"
    );
    reset.abort();
    assert!(reset.await.unwrap_err().is_cancelled());

    let error = fails(at(address, half)).await;
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    // Nobody accepts, and the queue of the listener is full: the connection never comes about.
    let (full, _kept) = full_listener();
    let error = fails(at(full, half)).await;
    let waited_for_tcp = matches!(
        error,
        DialError::Timeout {
            step: Step::Connect,
            ..
        }
    );
    assert!(waited_for_tcp, "{error}");
}

/// A listener whose queue is full, and what keeps it so.
fn full_listener() -> (SocketAddr, (Socket, Vec<Socket>)) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
    let listener = socket();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..4).map(|_| {
        let client = socket();
        // In progress, or never.
        drop(client.connect(&address));
        client
    });
    let waiting = waiting.collect();
    (address.as_socket().unwrap(), (listener, waiting))
}

#[tokio::test]
async fn a_server_that_never_speaks_leaves_time_for_the_next() {
    let silent = scripted("nats", Script::Send(Vec::new())).await;
    let well = scripted("nats", Script::Answer(b"PONG\r\nPONG\r\n".to_vec())).await;
    let servers = [silent.servers, well.servers.clone()].concat();
    let upstreams = upstreams(config(servers, Auth::None));
    for _ in 0..2 {
        let link = dial(&upstreams).await.unwrap();
        assert_eq!(*link.server, *well.servers[0].to_string());
    }
}

#[tokio::test]
async fn a_server_that_closes_is_told_from_one_that_is_not_there() {
    for bytes in [&b""[..], b"INFO {\"ser"] {
        let error = failure(Script::SendAndClose(bytes.to_vec())).await;
        assert!(matches!(error, DialError::Closed { .. }), "{error}");
    }
    let error = failure(Script::SendAndClose(INFO.as_bytes().to_vec())).await;
    assert!(matches!(error, DialError::Closed { .. }), "{error}");
}

#[tokio::test]
async fn an_error_before_pong_is_reported_with_its_text_made_harmless() {
    let error = failure(Script::Answer(
        b"-ERR 'Authorization Violation'\r\n".to_vec(),
    ))
    .await;
    assert!(matches!(error, DialError::Refused { .. }), "{error}");
    let error = failure(Script::Answer(b"-ERR '\x1b[2Jmaximum'\r\n".to_vec())).await;
    assert!(matches!(error, DialError::TurnedAway { .. }), "{error}");
    assert!(error.to_string().contains("\\x1b[2J"), "{error}");
    let error = failure(Script::Answer(b"MSG a 1 0\r\n\r\n".to_vec())).await;
    assert!(matches!(error, DialError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_server_in_lame_duck_mode_is_not_given_our_credentials() {
    let greeting = b"INFO {\"server_id\":\"X\",\"ldm\":true} \r\n".to_vec();
    let error = failure(Script::Send(greeting)).await;
    assert!(matches!(error, DialError::LameDuck { .. }), "{error}");
}

#[tokio::test]
async fn bytes_in_clear_behind_info_do_not_pass_for_bytes_from_inside_tls() {
    let greeting = b"INFO {\"tls_required\":true} \r\nPONG\r\n".to_vec();
    let config = UpstreamConfig {
        tls: Some(Certificates::new().dial(TlsFirst::No)),
        ..scripted("tls", Script::Send(greeting)).await
    };
    let error = fails(config).await;
    assert!(matches!(error, DialError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_pong_and_what_follows_it_in_one_segment_make_a_link_with_leftover() {
    let answer = b"PONG\r\nINFO {\"connect_info\":true} \r\nPONG\r\n".to_vec();
    let upstreams = upstreams(scripted("nats", Script::Answer(answer)).await);
    let link = dial(&upstreams).await.unwrap();
    assert!(b"PONG\r\n".starts_with(&link.leftover[..]));
    assert!(link.info.connect_info);
}

#[tokio::test]
async fn a_dial_that_is_given_up_leaves_the_server_usable() {
    let upstreams = upstreams(scripted("nats", Script::Answer(b"PONG\r\nPONG\r\n".to_vec())).await);
    for _ in 0..20 {
        let abandoned = dial(&upstreams);
        drop(tokio::time::timeout(Duration::from_micros(100), abandoned).await);
    }
    dial(&upstreams).await.unwrap();
}
