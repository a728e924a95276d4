//! The probe against our server, against a scripted one and against silence.

use std::{net::SocketAddr, time::Duration};

use derp_stun::{
    BindingRequest, BindingResponse, MAX_RESPONSE_LEN, ProbeError, ProbeOptions, ResponseError,
    StunServer, TxId, probe, probe_on,
};
use tokio::{net::UdpSocket, time::Instant};

/// Retransmits quickly, and gives up only if something is broken.
const PATIENT: ProbeOptions = ProbeOptions {
    deadline: Duration::from_secs(10),
    retransmit_every: Duration::from_millis(10),
};

async fn bind(addr: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(addr).await.expect("a free port");
    let addr = socket.local_addr().expect("bound");
    (socket, addr)
}

/// The next request that reaches a scripted server.
async fn request(server: &UdpSocket) -> (BindingRequest, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = server.recv_from(&mut buffer).await.expect("a request");
    let request = BindingRequest::parse(&buffer[..len]).expect("a valid request");
    (request, from)
}

fn response(txid: TxId, mapped: SocketAddr) -> Vec<u8> {
    let mut out = [0; MAX_RESPONSE_LEN];
    let len = BindingResponse { txid, mapped }.encode(&mut out);
    out[..len].to_vec()
}

#[tokio::test]
async fn our_own_address_comes_back_from_our_own_server() {
    for (server, asked) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.2"),
        ("[::]:0", "127.0.0.2"),
        ("[::]:0", "::ffff:127.0.0.2"),
        ("[::1]:0", "::1"),
    ] {
        let server = StunServer::bind(server.parse().expect("an address")).expect("a free port");
        let port = server.local_addr().port();
        let serving = tokio::spawn(server.serve());

        let asked = SocketAddr::new(asked.parse().expect("an address"), port);
        let unwrapped = SocketAddr::new(asked.ip().to_canonical(), port);
        let started = Instant::now();
        let report = probe(asked, PATIENT).await.expect("an answer");
        assert!(report.mapped.ip().is_loopback(), "{:?}", report.mapped);
        assert_eq!(report.mapped.is_ipv4(), unwrapped.is_ipv4());
        assert_eq!(report.answered_by, unwrapped);
        assert!(report.rtt <= started.elapsed());
        serving.abort();
    }
}

#[tokio::test]
async fn lost_requests_are_sent_again_under_new_ids() {
    let (server, addr) = bind("127.0.0.1:0").await;
    let mapped: SocketAddr = "198.51.100.7:1".parse().expect("an address");
    let script = async {
        let (first, _) = request(&server).await;
        let (second, _) = request(&server).await;
        let (third, client) = request(&server).await;
        assert!(first != second && second != third && third != first);
        server
            .send_to(&response(third.txid, mapped), client)
            .await
            .expect("sent");
    };
    let (report, ()) = tokio::join!(probe(addr, PATIENT), script);
    let report = report.expect("an answer");
    assert_eq!((report.mapped, report.answered_by), (mapped, addr));
    assert!(report.requests >= 3);
}

#[tokio::test]
async fn answers_to_other_requests_and_noise_are_passed_over() {
    let (server, addr) = bind("127.0.0.1:0").await;
    let wrong: SocketAddr = "203.0.113.66:66".parse().expect("an address");
    let right: SocketAddr = "198.51.100.7:1".parse().expect("an address");
    let script = async {
        let (request, client) = request(&server).await;
        let stranger = TxId::from_bytes([0; 12]);
        for datagram in [
            b"noise".to_vec(),
            response(stranger, wrong),
            request.encode().to_vec(),
            response(request.txid, right),
        ] {
            server.send_to(&datagram, client).await.expect("sent");
        }
    };
    let (report, ()) = tokio::join!(probe(addr, PATIENT), script);
    assert_eq!(report.expect("an answer").mapped, right);
}

#[tokio::test]
async fn an_answer_from_another_address_is_reported_as_such() {
    let (server, addr) = bind("127.0.0.1:0").await;
    let (elsewhere, other_addr) = bind("127.0.0.2:0").await;
    let script = async {
        let (request, client) = request(&server).await;
        elsewhere
            .send_to(&response(request.txid, client), client)
            .await
            .expect("sent");
    };
    let (report, ()) = tokio::join!(probe(addr, PATIENT), script);
    assert_eq!(report.expect("an answer").answered_by, other_addr);
}

#[tokio::test]
async fn one_socket_shows_the_same_address_to_two_servers() {
    let (client, client_addr) = bind("127.0.0.1:0").await;
    for _ in 0..2 {
        let server = StunServer::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let addr = server.local_addr();
        let serving = tokio::spawn(server.serve());
        let report = probe_on(&client, addr, PATIENT).await.expect("an answer");
        assert_eq!(report.mapped, client_addr);
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline_after_the_promised_number_of_requests() {
    // Bound, so that nobody else is asked, and never read.
    let (_server, addr) = bind("127.0.0.1:0").await;
    let options = ProbeOptions::within(Duration::from_secs(3));
    let started = Instant::now();
    let error = probe(addr, options).await.expect_err("nobody answers");
    assert_eq!(started.elapsed().as_secs(), 3);
    let ProbeError::NoAnswer {
        server,
        requests,
        rejected,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((server, requests, rejected), (addr, 6, None));
}

#[tokio::test]
async fn a_server_that_answers_badly_is_told_from_a_silent_one() {
    let (server, addr) = bind("127.0.0.1:0").await;
    let options = ProbeOptions {
        deadline: Duration::from_millis(200),
        ..PATIENT
    };
    let script = async {
        loop {
            let (request, client) = request(&server).await;
            server
                .send_to(&request.encode(), client)
                .await
                .expect("sent");
        }
    };
    let error = tokio::select! {
        result = probe(addr, options) => result.expect_err("no usable answer"),
        () = script => unreachable!("the script never ends"),
    };
    let ProbeError::NoAnswer { rejected, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(rejected, Some(ResponseError::NotASuccess(0x0001)));
}

#[tokio::test]
async fn what_cannot_be_sent_fails_at_once() {
    let unreachable: SocketAddr = "255.255.255.255:3478".parse().expect("an address");
    let error = probe(unreachable, PATIENT)
        .await
        .expect_err("broadcasts need permission");
    let ProbeError::Send { server, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(server, unreachable);
}
