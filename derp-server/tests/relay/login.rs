//! Who gets in, and who is shown the door.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use derp_proto::{
    ClientInfo, FrameHeader, FrameType, KEY_LEN, MAX_CLIENT_INFO_LEN, NodePublic, ServerFrame,
    ServerIdentity,
};
use derp_server::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::raw::{BoxedInfo, Raw};
use crate::support::{
    Kind, MESH_KEY, Relay, eventually, key, login, mesh_login, over_every_kind, private, request,
    tell, tls, within,
};

over_every_kind! {
    silence_ends_after_the_greetings_time,
    a_login_that_trickles_ends_as_well,
    a_login_of_an_impossible_length_is_refused_by_its_header,
    logins_of_every_length_that_is_possible_are_read,
    a_first_frame_of_another_type_is_refused,
    keys_that_anybody_holds_are_refused,
    a_key_must_be_proved,
    what_a_client_says_of_itself_is_read_as_go_reads_it,
    the_mesh_key_makes_a_mesh_peer_and_another_does_not,
    a_client_that_leaves_before_its_login_leaves_nothing,
    clients_are_counted_by_their_version_of_tls,
}

/// Longer than a test waits for anything: what ends sooner has ended for another reason.
const NEVER: Duration = Duration::from_secs(3600);

const LOGIN_FAILURES: &str = "derper_login_failures";

#[expect(clippy::disallowed_methods, reason = "it is about time that passes")]
fn now() -> Instant {
    Instant::now()
}

async fn silence_ends_after_the_greetings_time(relay: &Relay) {
    const LIMIT: Duration = Duration::from_millis(150);
    relay.tune(|tunables| {
        tunables.client_info_timeout = LIMIT;
        tunables.login_timeout = NEVER;
    });
    let mut good = relay.client(2).await;
    let start = now();
    let mut silent = relay.raw().await;
    silent.greeting().await;
    assert_eq!(silent.closed().await, []);
    assert!(start.elapsed() >= LIMIT);
    relay.counts(LOGIN_FAILURES, 1).await;
    // Who has logged in may be silent.
    assert_eq!(good.received().await, []);
}

async fn a_login_that_trickles_ends_as_well(relay: &Relay) {
    const LIMIT: Duration = Duration::from_millis(150);
    relay.tune(|tunables| tunables.client_info_timeout = LIMIT);
    let start = now();
    let mut slow = relay.raw().await;
    slow.greeting().await;
    // The whole header, and of the body as much as the smallest may have.
    slow.send(&header(300)).await;
    slow.send(&[1; 56]).await;
    assert_eq!(slow.closed().await, []);
    assert!(start.elapsed() >= LIMIT);
    relay.counts(LOGIN_FAILURES, 1).await;
}

fn header(len: usize) -> [u8; 5] {
    let len = u32::try_from(len).expect("it fits");
    FrameHeader {
        ty: FrameType::CLIENT_INFO,
        len,
    }
    .to_bytes()
}

async fn a_login_of_an_impossible_length_is_refused_by_its_header(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.client_info_timeout = NEVER;
        tunables.login_timeout = NEVER;
    });
    let lengths = [0, 55, MAX_CLIENT_INFO_LEN + 1, 262_145];
    for (len, n) in lengths.into_iter().zip(1..) {
        let mut raw = relay.raw().await;
        raw.greeting().await;
        raw.send(&header(len)).await;
        assert_eq!(raw.closed().await, [], "{len}");
        relay.counts(LOGIN_FAILURES, n).await;
    }
}

async fn logins_of_every_length_that_is_possible_are_read(relay: &Relay) {
    let plain = ClientInfo::plain().to_json();
    let overhead = KEY_LEN + 24 + 16;
    for len in [
        2 + overhead,
        plain.len() + overhead,
        4096,
        MAX_CLIENT_INFO_LEN,
    ] {
        let mut json = if len < 100 {
            b"{}".to_vec()
        } else {
            plain.clone()
        };
        json.resize(len - overhead, b' ');
        assert!(is_admitted(relay, &json).await, "{len}");
    }
    // The shortest that is waited for has no box in it, and so proves nothing.
    let mut raw = relay.raw().await;
    raw.greeting().await;
    raw.send(&header(56)).await;
    raw.send(key(1).as_bytes()).await;
    raw.send(&[0; 24]).await;
    assert_eq!(raw.closed().await, []);
}

/// Whether the holder of a key is admitted that says this of itself.
async fn is_admitted(relay: &Relay, json: &[u8]) -> bool {
    let mut raw = relay.raw().await;
    let server = raw.greeting().await;
    raw.send(&BoxedInfo::new(&server.key(), &private(1)).frame(json))
        .await;
    admits(&mut raw).await
}

/// Whether the relay goes on with a ServerInfo frame, or closes the connection.
async fn admits(raw: &mut Raw) -> bool {
    match raw.try_recv().await {
        None => false,
        Some(frame) => {
            assert_eq!(frame.ty, FrameType::SERVER_INFO);
            true
        }
    }
}

async fn a_first_frame_of_another_type_is_refused(relay: &Relay) {
    relay.tune(|tunables| tunables.client_info_timeout = NEVER);
    for (first, n) in [0x04, 0x12, 0x01, 0x77, b'G'].into_iter().zip(1..) {
        let mut raw = relay.raw().await;
        raw.greeting().await;
        raw.send(&[first, 0, 0, 0, 60]).await;
        assert_eq!(raw.closed().await, [], "{first:#04x}");
        relay.counts(LOGIN_FAILURES, n).await;
    }
}

/// With a point of low order the shared secret is zero, whoever computes it: a client could log
/// in with such a key without holding anything.
async fn keys_that_anybody_holds_are_refused(relay: &Relay) {
    let mut good = relay.client(2).await;
    let little = |n: u8| {
        let mut key = [0; 32];
        key[0] = n;
        key
    };
    // 2^255 - 19 and what is just around it, which are 0, 1 and -1 spelled otherwise.
    let around_p = |n: u8| {
        let mut key = [0xff; 32];
        (key[0], key[31]) = (n, 0x7f);
        key
    };
    let keys = [
        little(0),
        little(1),
        around_p(0xec),
        around_p(0xed),
        around_p(0xee),
        [0xff; 32],
    ];
    for (key, n) in keys.into_iter().zip(1..) {
        let key = NodePublic::from_bytes(key);
        let mut raw = relay.raw().await;
        raw.greeting().await;
        raw.send(&BoxedInfo::by_nobody(key).frame(b"{}")).await;
        assert_eq!(raw.closed().await, [], "{key:?}");
        relay.counts(LOGIN_FAILURES, n).await;
        good.send(good.key, b"still here").await;
        assert_eq!(good.packet().await, (good.key, b"still here".to_vec()));
    }
    assert_eq!(relay.server.clients().len(), 1);
}

async fn a_key_must_be_proved(relay: &Relay) {
    let mut raw = relay.raw().await;
    let server = raw.greeting().await;
    let mut claim = BoxedInfo::new(&server.key(), &private(1));
    claim.claimed = key(2);
    raw.send(&claim.frame(b"{}")).await;
    assert_eq!(raw.closed().await, []);
    relay.counts(LOGIN_FAILURES, 1).await;
}

async fn what_a_client_says_of_itself_is_read_as_go_reads_it(relay: &Relay) {
    let upper = format!(r#"{{"MESHKEY":"{}","Version":5}}"#, MESH_KEY.to_uppercase());
    let admitted = [
        "null",
        "{}",
        r#"{"version":99}"#,
        r#"{"version":2,"CanAckPings":true}"#,
        r#"{"version":2,"CanAckPings":false,"IsProber":true,"AppName":"x"}"#,
        r#"{"nobody knows":["this"],"version":2}"#,
        upper.as_str(),
    ];
    for json in admitted {
        assert!(is_admitted(relay, json.as_bytes()).await, "{json}");
    }
    let short = format!(r#"{{"meshKey":"{}"}}"#, &MESH_KEY[1..]);
    let refused = [
        "",
        "[]",
        "{} {}",
        r#"{"version":"2"}"#,
        r#"{"version":2.0}"#,
        r#"{"meshKey":""}"#,
        r#"{"meshKey":7}"#,
        short.as_str(),
    ];
    for (json, n) in refused.into_iter().zip(1..) {
        assert!(!is_admitted(relay, json.as_bytes()).await, "{json}");
        relay.counts(LOGIN_FAILURES, n).await;
    }
}

async fn the_mesh_key_makes_a_mesh_peer_and_another_does_not(relay: &Relay) {
    let watch = async |json: String| {
        let mut raw = relay.raw().await;
        let server = raw.greeting().await;
        raw.send(&BoxedInfo::new(&server.key(), &private(1)).frame(json.as_bytes()))
            .await;
        assert!(admits(&mut raw).await);
        raw.send(&[0x10, 0, 0, 0, 0]).await;
        raw.try_recv().await.map(|frame| frame.ty)
    };
    let with_key = |mesh_key: &str| format!(r#"{{"meshKey":"{mesh_key}"}}"#);
    assert_eq!(
        watch(with_key(MESH_KEY)).await,
        Some(FrameType::PEER_PRESENT)
    );
    // One digit is another.
    assert_eq!(watch(with_key(&MESH_KEY.replacen('0', "1", 1))).await, None);
    assert_eq!(watch(with_key(&"0".repeat(64))).await, None);
    assert_eq!(watch("{}".to_owned()).await, None);
}

async fn a_client_that_leaves_before_its_login_leaves_nothing(relay: &Relay) {
    let mut raw = relay.raw().await;
    raw.greeting().await;
    drop(raw);
    let mut raw = relay.raw().await;
    let server = raw.greeting().await;
    let frame = BoxedInfo::new(&server.key(), &private(1)).frame(b"{}");
    raw.send(&frame[..frame.len() - 1]).await;
    drop(raw);
    // And one that leaves right behind it.
    let mut raw = relay.raw().await;
    raw.greeting().await;
    raw.send(&frame).await;
    drop(raw);
    let mut next = relay.raw_login(&login(1)).await;
    assert_eq!(next.received().await, []);
    let mut mesh = relay.raw_login(&mesh_login(7)).await;
    mesh.send_frames(&[derp_proto::ClientFrame::Ping([1; 8])])
        .await;
    mesh.expect(ServerFrame::Pong([1; 8])).await;
    relay.has_connections(2).await;
}

async fn clients_are_counted_by_their_version_of_tls(relay: &Relay) {
    let version = match relay.kind {
        Kind::Tls12 => Some("1.2"),
        Kind::Tls13 | Kind::Tls13ByRustls | Kind::WebSocketTls => Some("1.3"),
        Kind::Plain | Kind::WebSocket | Kind::Stream => None,
        Kind::Upgraded | Kind::NoWorkers | Kind::Unix => None,
    };
    let counts = |name: &'static str, clients: u64| {
        ["1.2", "1.3"].into_iter().all(|one| {
            let expected = if version == Some(one) { clients } else { 0 };
            relay.metric(name, &[("version", one)]) == expected
        })
    };
    let active = "derper_tls_active_version";
    let (first, second) = (relay.client(1).await, relay.client(2).await);
    eventually("two are counted", || counts(active, 2)).await;
    drop(first);
    eventually("one has left", || counts(active, 1)).await;
    drop(second);
    eventually("both have left", || counts(active, 0)).await;
    assert!(counts("derper_tls_request_version", 2));
}

/// A client that goes on with new keys, and asks for the relay's, before it has logged in. No record
/// may come that its keys do not open: it would have been sealed with others, or twice with one number.
async fn new_keys(relay: &Relay) {
    for is_before_request in [true, false] {
        let tcp = TcpStream::connect(relay.tls).await.expect("a connection");
        let tls = tls::connect(tcp, &rustls::version::TLS13).await;
        let mut tls = tls.expect("a handshake");
        let request = request::derp("");
        if is_before_request {
            tls.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        }
        within("the upgrade", request::upgrade(&mut tls, &request))
            .await
            .expect("it is answered");
        let mut greeting = [0; 45];
        within("the greeting", tls.read_exact(&mut greeting))
            .await
            .expect("it comes");
        if !is_before_request {
            tls.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        }
        let server = ServerIdentity::known(relay.server.public_key());
        let (mut hello, login) = (Vec::new(), login(1));
        server
            .hello(&login.key, &login.info, [9; 24], &mut hello)
            .expect("a key");
        tls.write_all(&hello).await.expect("the relay reads");
        tls.flush().await.expect("the relay reads");
        let mut rest = Vec::new();
        let ended = within("the end", tls.read_to_end(&mut rest)).await;
        let ended = ended.map_err(|error| error.kind());
        assert_ne!(ended, Err(ErrorKind::InvalidData), "{is_before_request}");
        assert_eq!(rest, b"", "{is_before_request}");
    }
    let outcomes = relay.server.metrics().outcomes();
    eventually("both are counted", || outcomes.get(Outcome::Tls) == 2).await;
}

#[test]
fn new_keys_before_a_login_end_it() {
    tell(Kind::Tls13, new_keys);
}
