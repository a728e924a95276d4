//! TLS as it carries DERP: versions, ciphers, records, keys and ends. What is agreed on before
//! that is another section.

use std::time::Duration;

use rustls::{CipherSuite, ProtocolVersion};

use crate::case::{Case, Needs, differs, must};
use crate::conn::Conn;
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{PONG, RECV_PACKET, SERVER_INFO};
use crate::http;
use crate::peer::Login;
use crate::verdict::{Checked, Failure, Side, ensure, same, shown};
use crate::wire::{Hello, TLS12, TLS13, Versions};

pub(super) const CASES: &[Case] = &[
    must!(
        version(ProtocolVersion::TLSv1_3, TLS13),
        "TLS 1.3 is spoken.",
        "RFC 8446"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoTls, Fault::OtherVersion]),
    must!(
        version(ProtocolVersion::TLSv1_2, TLS12),
        "TLS 1.2 is spoken.",
        "cmd/derper/derper.go"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoTls, Fault::OtherVersion]),
    must!(
        dripping_hello(),
        "A handshake may come byte by byte.",
        "RFC 8446, 5.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoTls, Fault::FlipFrame(PONG, 0)]),
    must!(
        suite(CipherSuite::TLS13_AES_128_GCM_SHA256),
        "TLS_AES_128_GCM_SHA256 carries packets of all sizes.",
        "RFC 8446, 9.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 40)]),
    must!(
        suite(CipherSuite::TLS13_AES_256_GCM_SHA384),
        "TLS_AES_256_GCM_SHA384 carries packets of all sizes.",
        "RFC 8446, 9.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 40)]),
    must!(
        suite(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
        "TLS_CHACHA20_POLY1305_SHA256 carries packets of all sizes.",
        "RFC 8446, 9.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 40)]),
    must!(
        versions_mix(),
        "Clients of TLS 1.2 and of TLS 1.3 exchange packets of all sizes.",
        "derp/derp.go"
    )
    .needs(Needs::TLS)
    .red_by(&[
        Fault::FlipFrame(RECV_PACKET, 40),
        Fault::LoseFrame(SERVER_INFO),
    ]),
    must!(
        small_records(),
        "Frames may be spread over TLS records of 32 bytes.",
        "RFC 8446, 5.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 40), Fault::LoseFrame(PONG)]),
    must!(
        new_traffic_keys(),
        "A TLS 1.3 client may change its keys at any time.",
        "RFC 8446, 4.6.3"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::LoseFrame(PONG), Fault::EndAt(RECV_PACKET)]),
    must!(
        close_notify(TLS13),
        "A TLS 1.3 client that says that it ends is disconnected, though its TCP stays.",
        "RFC 8446, 6.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoEnd]),
    must!(
        close_notify(TLS12),
        "A TLS 1.2 client that says that it ends is disconnected, though its TCP stays.",
        "RFC 5246, 7.2.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoEnd]),
    differs!(
        plain_http(),
        "Plain HTTP on the TLS port is no way in.",
        "net/http of the reference's Go",
        derpkit: "the connection ends",
        reference: "400 in plain text",
        page: "Plain HTTP on the TLS port ends the connection."
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoEnd]),
    must!(
        garbage(),
        "What is no TLS ends its connection, and no other.",
        "RFC 8446, 6.2"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoEnd, Fault::LoseFrame(PONG)]),
    must!(
        silent_hello(),
        "A handshake that does not go on is ended within 31 s.",
        "cmd/derper/derper.go"
    )
    .needs(Needs::TLS.and(Needs::SLOW))
    .red_by(&[Fault::NoEnd]),
];

pub(super) fn by_version(versions: Versions) -> Hello {
    Hello {
        versions,
        ..Hello::default()
    }
}

/// Logs in, and has a ping answered.
pub(super) async fn works(cx: &Cx, hello: Hello) -> Checked {
    let login = Login {
        hello,
        ..Login::new()
    };
    cx.log_in(&login).await?.ping().await
}

async fn version(cx: &Cx, version: ProtocolVersion, versions: Versions) -> Checked {
    let conn = cx.open_by(&by_version(versions)).await?;
    let seen = conn.handshake.and_then(|handshake| handshake.version);
    same("version", seen, Some(version))?;
    works(cx, by_version(versions)).await
}

async fn dripping_hello(cx: &Cx) -> Checked {
    let hello = Hello {
        drips: true,
        ..Hello::default()
    };
    works(cx, hello).await
}

/// Sends packets of sizes around those of records, both ways.
async fn exchange(cx: &Cx, first: Hello, second: Hello) -> Checked {
    let log_in = async |hello| {
        let login = Login {
            hello,
            ..Login::new()
        };
        cx.log_in(&login).await
    };
    let (mut a, mut b) = (log_in(first).await?, log_in(second).await?);
    for len in [1, 1280, 16_347, 16_348, 40_000, 65_536] {
        let data: Vec<u8> = (0..=255).cycle().take(len).collect();
        a.reaches(&mut b, &data).await?;
        b.reaches(&mut a, &data).await?;
    }
    Ok(())
}

async fn suite(cx: &Cx, suite: CipherSuite) -> Checked {
    let hello = Hello {
        versions: TLS13,
        suite: Some(suite),
        ..Hello::default()
    };
    exchange(cx, hello, Hello::default()).await
}

async fn versions_mix(cx: &Cx) -> Checked {
    exchange(cx, by_version(TLS12), by_version(TLS13)).await
}

async fn small_records(cx: &Cx) -> Checked {
    let login = Login {
        hello: Hello {
            record_len: Some(32),
            ..Hello::default()
        },
        ..Login::new()
    };
    let (mut a, mut b) = (cx.log_in(&login).await?, cx.peer().await?);
    a.reaches(&mut b, &[0x5a; 3000]).await?;
    a.ping().await
}

async fn new_traffic_keys(cx: &Cx) -> Checked {
    let login = Login {
        hello: by_version(TLS13),
        ..Login::new()
    };
    let (mut a, mut b) = (cx.log_in(&login).await?, cx.peer().await?);
    for _ in 0..3 {
        let session = a.conn.session();
        let session = session.ok_or_else(|| Failure::new("TLS", "none"))?;
        session
            .refresh_traffic_keys()
            .map_err(|err| Failure::new("new keys", err.to_string()))?;
        a.ping().await?;
        a.reaches(&mut b, b"with new keys").await?;
        b.reaches(&mut a, b"with old keys").await?;
    }
    Ok(())
}

async fn close_notify(cx: &Cx, versions: Versions) -> Checked {
    let login = Login {
        hello: by_version(versions),
        ..Login::new()
    };
    let mut peer = cx.log_in(&login).await?;
    let session = peer.conn.session();
    session
        .ok_or_else(|| Failure::new("TLS", "none"))?
        .send_close_notify();
    // What is written pushes the alert out; it is no part of the stream any more.
    peer.conn.flush().await;
    peer.is_cut_off().await
}

/// Sends bytes to the TLS port that are no TLS, and returns what comes until the end.
async fn answer_to(cx: &Cx, bytes: &[u8]) -> Checked<Vec<u8>> {
    let mut conn: Conn = cx.open_tcp(&cx.target().address()).await?;
    conn.send(bytes).await;
    conn.rest().await
}

async fn plain_http(cx: &Cx) -> Checked<Side> {
    let request = http::upgrade(cx.target(), "");
    let answer = answer_to(cx, request.as_bytes()).await?;
    if answer.is_empty() {
        return Ok(Side::Derpkit);
    }
    ensure(
        answer.starts_with(b"HTTP/1.0 400 "),
        "nothing, or status 400",
        shown(&answer),
    )?;
    Ok(Side::Reference)
}

async fn garbage(cx: &Cx) -> Checked {
    let mut bystander = cx.peer().await?;
    for bytes in [
        &[0x16, 3, 1, 0xff, 0xff, 1][..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0; 64],
    ] {
        let answer = answer_to(cx, bytes).await?;
        ensure(
            answer.is_empty()
                || answer.starts_with(&[21, 3])
                || answer.starts_with(b"HTTP/1.0 400"),
            "nothing, or an alert",
            shown(&answer),
        )?;
    }
    bystander.ping().await
}

async fn silent_hello(cx: &Cx) -> Checked {
    let mut conn = cx.open_tcp(&cx.target().address()).await?;
    conn.send([22, 3, 1, 1, 0, 1, 0]).await;
    conn.ends_within(Duration::from_secs(31)).await.map(|_| ())
}
