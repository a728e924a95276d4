//! The server on real sockets: who is answered, from where, and in which family.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use derp_stun::{BindingRequest, BindingResponse, CounterSnapshot, StunHandle, StunServer, TxId};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    task::{JoinHandle, yield_now},
    time::timeout,
};

/// Long enough for any machine; nothing here waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(10);

struct Served {
    port: u16,
    handle: StunHandle,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

fn serve(addr: &str) -> Served {
    serve_on(StunServer::bind(addr.parse().expect("an address")).expect("a free port"))
}

fn serve_on(server: StunServer) -> Served {
    let (stop, stopped) = oneshot::channel();
    Served {
        port: server.local_addr().port(),
        handle: server.handle(),
        task: tokio::spawn(server.serve_until(async {
            stopped.await.unwrap_or_default();
        })),
        stop,
    }
}

async fn client(ip: &str) -> UdpSocket {
    let ip: IpAddr = ip.parse().expect("an address");
    UdpSocket::bind((ip, 0)).await.expect("a local address")
}

fn request(number: u8) -> BindingRequest {
    BindingRequest {
        txid: TxId::from_bytes([number; 12]),
    }
}

/// The next datagram: its length, its content, its sender.
async fn receive(socket: &UdpSocket) -> (usize, BindingResponse, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = timeout(PATIENCE, socket.recv_from(&mut buffer))
        .await
        .expect("an answer in time")
        .expect("a working socket");
    let response = BindingResponse::parse(&buffer[..len]).expect("a response");
    (len, response, from)
}

/// Waits until the counters are as `expected`, which must come true by itself.
async fn counted(handle: &StunHandle, expected: CounterSnapshot) {
    let reached = async {
        while handle.counters() != expected {
            yield_now().await;
        }
    };
    timeout(PATIENCE, reached)
        .await
        .unwrap_or_else(|_| panic!("{:?} is not {expected:?}", handle.counters()));
}

fn counters(change: impl FnOnce(&mut CounterSnapshot)) -> CounterSnapshot {
    let mut counters = CounterSnapshot::default();
    change(&mut counters);
    counters
}

#[tokio::test]
async fn the_answer_comes_from_the_address_that_was_asked() {
    for server in ["0.0.0.0:0", "[::]:0"] {
        let served = serve(server);
        for asked in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.255.255.254"] {
            let client = client("127.0.0.1").await;
            let asked = SocketAddr::new(asked.parse().expect("an address"), served.port);
            client
                .send_to(&request(1).encode(), asked)
                .await
                .expect("sent");

            let mapped = client.local_addr().expect("bound");
            let response = BindingResponse {
                txid: request(1).txid,
                mapped,
            };
            assert_eq!(
                receive(&client).await,
                (32, response, asked),
                "server on {server}"
            );
        }
        let expected = counters(|c| (c.success, c.ipv4) = (4, 4));
        counted(&served.handle, expected).await;
    }
}

#[tokio::test]
async fn a_dual_stack_server_answers_ipv6_clients_in_their_family() {
    let served = serve("[::]:0");
    let client = client("::1").await;
    let asked = SocketAddr::new("::1".parse().expect("an address"), served.port);
    client
        .send_to(&request(1).encode(), asked)
        .await
        .expect("sent");

    let mapped = client.local_addr().expect("bound");
    let response = BindingResponse {
        txid: request(1).txid,
        mapped,
    };
    assert_eq!(receive(&client).await, (44, response, asked));
    counted(&served.handle, counters(|c| (c.success, c.ipv6) = (1, 1))).await;
}

#[tokio::test]
async fn only_valid_requests_are_answered_and_garbage_does_not_disturb() {
    let served = serve("127.0.0.1:0");
    let client = client("127.0.0.1").await;
    let asked = SocketAddr::new("127.0.0.1".parse().expect("an address"), served.port);
    let mut broken = request(1).encode();
    broken[39] ^= 1;
    for datagram in [
        &b""[..],
        b"hello",
        &broken,
        &[0xff; 9000],
        &request(2).encode(),
    ] {
        client.send_to(datagram, asked).await.expect("sent");
    }
    // Datagrams on loopback stay in order: an answer to one of the others would come first.
    let (_, response, _) = receive(&client).await;
    assert_eq!(response.txid, request(2).txid);
    let expected = counters(|c| (c.not_stun, c.success, c.ipv4) = (4, 1, 1));
    counted(&served.handle, expected).await;
}

#[tokio::test]
async fn more_requests_than_fit_into_one_read_are_all_answered() {
    let served = serve("127.0.0.1:0");
    let client = client("127.0.0.1").await;
    let asked = SocketAddr::new("127.0.0.1".parse().expect("an address"), served.port);
    for number in 0..100 {
        client
            .send_to(&request(number).encode(), asked)
            .await
            .expect("sent");
    }
    for number in 0..100 {
        assert_eq!(receive(&client).await.1.txid, request(number).txid);
    }
    counted(
        &served.handle,
        counters(|c| (c.success, c.ipv4) = (100, 100)),
    )
    .await;
}

#[tokio::test]
async fn requests_that_the_kernel_delivers_as_one_are_answered_one_by_one() {
    for (server, asked, len) in [
        ("0.0.0.0:0", "127.0.0.2", 32),
        ("[::]:0", "127.0.0.2", 32),
        ("[::]:0", "::1", 44),
    ] {
        let served = serve(server);
        let asked = SocketAddr::new(asked.parse().expect("an address"), served.port);
        let client = client(if asked.is_ipv4() { "127.0.0.1" } else { "::1" }).await;
        let state = quinn_udp::UdpSocketState::new((&client).into()).expect("a UDP socket");
        let requests: Vec<u8> = (0..64)
            .flat_map(|number| request(number).encode())
            .collect();
        let transmit = quinn_udp::Transmit {
            destination: asked,
            ecn: None,
            contents: &requests,
            segment_size: Some(derp_stun::REQUEST_LEN),
            src_ip: None,
        };
        client.writable().await.expect("a UDP socket");
        state.try_send((&client).into(), &transmit).expect("sent");

        for number in 0..64 {
            let (length, response, from) = receive(&client).await;
            assert_eq!(
                (length, response.txid, from),
                (len, request(number).txid, asked)
            );
        }
    }
}

#[tokio::test]
async fn a_quiet_server_throws_requests_away_until_it_resumes() {
    let served = serve("127.0.0.1:0");
    let client = client("127.0.0.1").await;
    let asked = SocketAddr::new("127.0.0.1".parse().expect("an address"), served.port);

    served.handle.be_quiet();
    assert!(served.handle.is_quiet());
    client
        .send_to(&request(1).encode(), asked)
        .await
        .expect("sent");
    counted(&served.handle, counters(|c| c.quiet = 1)).await;

    served.handle.resume();
    assert!(!served.handle.is_quiet());
    client
        .send_to(&request(2).encode(), asked)
        .await
        .expect("sent");
    assert_eq!(receive(&client).await.1.txid, request(2).txid);
    let expected = counters(|c| (c.quiet, c.success, c.ipv4) = (1, 1, 1));
    counted(&served.handle, expected).await;
}

#[tokio::test]
async fn a_taken_port_is_reported_by_bind_with_the_address() {
    let taken = StunServer::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let error = StunServer::bind(taken.local_addr()).expect_err("the port is taken");
    assert_eq!(error.addr, taken.local_addr());
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
    let port = taken.local_addr().port();
    assert_eq!(
        error.to_string(),
        format!("cannot open UDP socket 127.0.0.1:{port} for STUN")
    );
}

#[tokio::test]
async fn shutting_down_ends_without_error_and_frees_the_port() {
    let served = serve("127.0.0.1:0");
    served.stop.send(()).expect("the server waits for this");
    timeout(PATIENCE, served.task)
        .await
        .expect("an end")
        .expect("no panic");
    let again = SocketAddr::new("127.0.0.1".parse().expect("an address"), served.port);
    StunServer::bind(again).expect("the port is free again");
}

#[tokio::test]
async fn a_socket_bound_by_somebody_else_is_served_too() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let served = serve_on(StunServer::from_std(socket).expect("a UDP socket"));
    let client = client("127.0.0.1").await;
    let asked = SocketAddr::new("127.0.0.2".parse().expect("an address"), served.port);
    client
        .send_to(&request(1).encode(), asked)
        .await
        .expect("sent");
    assert_eq!(receive(&client).await.2, asked);
}
