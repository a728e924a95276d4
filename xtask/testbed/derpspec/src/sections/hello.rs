//! What a TLS client offers and names, and what is chosen of it.

use rustls::NamedGroup;

use super::tls::{by_version, works};
use crate::case::{Case, Needs, differs, must, should};
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::PONG;
use crate::peer::Login;
use crate::verdict::{Checked, Failure, Side, ensure, same, shown};
use crate::wire::{Hello, Refused, TLS12, TLS13, Versions};

const RFC_VERSIONS: &str = "cmd/derper/derper.go, RFC 8996";

pub(super) const CASES: &[Case] = &[
    must!(
        old_version(0x0302),
        "TLS 1.1 is refused with an alert.",
        RFC_VERSIONS
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Alert(0)]),
    must!(
        old_version(0x0301),
        "TLS 1.0 is refused with an alert.",
        RFC_VERSIONS
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Alert(0)]),
    differs!(
        old_version_alert(),
        "The alert that refuses TLS 1.1 names a reason.",
        RFC_VERSIONS,
        derpkit: "handshake_failure",
        reference: "protocol_version",
        page: "TLS 1.1 is refused with the alert `handshake_failure`."
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Alert(10), Fault::Alert(70)]),
    must!(
        protocol(&[], None),
        "A client without ALPN is served.",
        "derp/derphttp/derphttp_client.go"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoTls, Fault::Alpn("h2")]),
    must!(
        protocol(&["http/1.1"], Some("http/1.1")),
        "ALPN `http/1.1` is agreed on.",
        "cmd/derper/cert.go, RFC 7301, 3.2"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Alpn("h2")]),
    should!(
        protocol(&["h2", "http/1.1"], Some("http/1.1")),
        "Of ALPN `h2` and `http/1.1` the latter is chosen, over which DERP can be spoken.",
        "cmd/derper/cert.go"
    )
    .needs(Needs::TLS.and(Needs::IP))
    .red_by(&[Fault::Alpn("h2")]),
    differs!(
        only_h2(),
        "A client that offers only ALPN `h2` is refused or served.",
        "RFC 7301, 3.2",
        derpkit: "alert no_application_protocol",
        reference: "HTTP/2 is spoken",
        page: "HTTP/2 is not offered; a TLS client that speaks only that is refused."
    )
    .needs(Needs::TLS.and(Needs::IP))
    .red_by(&[Fault::Alert(40), Fault::NoRefusal]),
    must!(
        unknown_protocol(),
        "A client that offers only an unknown ALPN protocol is refused: \
         no_application_protocol.",
        "RFC 7301, 3.2"
    )
    .needs(Needs::TLS.and(Needs::IP))
    .red_by(&[Fault::Alert(40), Fault::NoRefusal]),
    must!(
        named(None),
        "A relay that is known by its address is served without a name.",
        "cmd/derper/cert.go"
    )
    .needs(Needs::TLS.and(Needs::IP))
    .red_by(&[Fault::NoTls, Fault::LoseFrame(PONG)]),
    must!(
        named(Some("relay.example")),
        "A relay that is known by its address is served by any name.",
        "cmd/derper/cert.go"
    )
    .needs(Needs::TLS.and(Needs::IP))
    .red_by(&[Fault::NoTls, Fault::LoseFrame(PONG)]),
    differs!(
        wrong_name(),
        "A relay that is known by its name refuses others.",
        "RFC 6066, 3",
        derpkit: "alert 112 or 49",
        reference: "alert internal_error",
        page: "a wrong one gets TLS alert 49"
    )
    .needs(Needs::TLS.and(Needs::NAME))
    .red_by(&[Fault::Alert(10)]),
    differs!(
        tickets(TLS13),
        "TLS 1.3 clients get session tickets, or none.",
        "RFC 8446, 4.6.1",
        derpkit: "none",
        reference: "they do",
        page: "TLS session tickets are not given."
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Tickets]),
    differs!(
        tickets(TLS12),
        "TLS 1.2 clients get session tickets, or none.",
        "RFC 5077",
        derpkit: "none",
        reference: "they do",
        page: "TLS session tickets are not given."
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Tickets]),
    must!(
        group(NamedGroup::secp256r1),
        "A client that knows only secp256r1 is served.",
        "RFC 8446, 9.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoTls]),
    must!(
        group(NamedGroup::X25519),
        "A client that knows only X25519 is served.",
        "RFC 8446, 9.1"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoTls]),
    should!(
        group(NamedGroup::X25519MLKEM768),
        "A client that knows only X25519MLKEM768 is served.",
        "crypto/tls of the reference's Go"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoTls]),
    differs!(
        named_in_capitals(),
        "A relay that is known by its name is served by it in capitals, or not.",
        "RFC 6066, 3",
        derpkit: "served",
        reference: "alert internal_error",
        page: "Server names are compared without regard to case"
    )
    .needs(Needs::TLS.and(Needs::NAME))
    .red_by(&[Fault::NoTls]),
    must!(
        unnamed(),
        "A relay that is known by its name refuses clients that name none.",
        "cmd/derper/cert.go"
    )
    .needs(Needs::TLS.and(Needs::NAME))
    .red_by(&[Fault::NoRefusal]),
];

/// The alert that answers a hello of this version, which no client of ours can send.
async fn alert_to(cx: &Cx, version: u16) -> Checked<(u8, u8)> {
    let version = version.to_be_bytes();
    let suites = [0xc0, 0x09, 0xc0, 0x13, 0xc0, 0x0a, 0xc0, 0x14, 0x00, 0x2f];
    let extensions = [
        0, 10, 0, 4, 0, 2, 0, 23, // supported groups: secp256r1
        0, 11, 0, 2, 1, 0, // uncompressed points
    ];
    let body = [
        &version[..],
        &crate::frame::random::<32>(),
        &[0, 0, 10],
        &suites,
        &[1, 0, 0, 14],
        &extensions,
    ]
    .concat();
    let len = u8::try_from(body.len()).expect("a short hello");
    let hello = [&[22, 3, 1, 0, len + 4, 1, 0, 0, len][..], &body].concat();
    let mut conn = cx.open_tcp(&cx.target().address()).await?;
    conn.send(hello).await;
    let record = conn.bytes(7).await?;
    let [21, 3, _, 0, 2, level, alert] = record[..] else {
        return Err(Failure::new("an alert", shown(&record)));
    };
    Ok(match cx.fault() {
        Some(Fault::Alert(alert)) => (level, alert),
        _ => (level, alert),
    })
}

async fn old_version(cx: &Cx, version: u16) -> Checked {
    let (level, alert) = alert_to(cx, version).await?;
    same("the alert's level", level, 2)?;
    // close_notify would be no refusal.
    ensure(alert != 0, "a fatal alert", format!("alert {alert}"))
}

async fn old_version_alert(cx: &Cx) -> Checked<Side> {
    match alert_to(cx, 0x0302).await?.1 {
        40 => Ok(Side::Derpkit),
        70 => Ok(Side::Reference),
        other => Err(Failure::new("alert 40 or 70", format!("alert {other}"))),
    }
}

async fn protocol(
    cx: &Cx,
    protocols: &'static [&'static str],
    expected: Option<&'static str>,
) -> Checked {
    let hello = Hello {
        protocols,
        ..Hello::default()
    };
    let conn = cx.open_by(&hello).await?;
    let seen = conn.handshake.and_then(|handshake| handshake.protocol);
    let seen = seen.map(|name| String::from_utf8_lossy(&name).into_owned());
    same("protocol", seen.as_deref(), expected)?;
    works(cx, hello).await
}

async fn refused(cx: &Cx, hello: &Hello) -> Checked<Option<Refused>> {
    Ok(cx.open_tls(hello).await?.err())
}

async fn only_h2(cx: &Cx) -> Checked<Side> {
    let hello = Hello {
        protocols: &["h2"],
        ..Hello::default()
    };
    match refused(cx, &hello).await? {
        None => Ok(Side::Reference),
        Some(Refused {
            alert: Some(120), ..
        }) => Ok(Side::Derpkit),
        Some(refused) => Err(Failure::new("alert 120", refused.text)),
    }
}

async fn unknown_protocol(cx: &Cx) -> Checked {
    let hello = Hello {
        protocols: &["derpspec/1"],
        ..Hello::default()
    };
    let refused = refused(cx, &hello).await?;
    let alert = refused.and_then(|refused| refused.alert);
    same("alert", alert, Some(120))
}

async fn named(cx: &Cx, name: Option<&'static str>) -> Checked {
    let hello = Hello {
        name,
        ..Hello::default()
    };
    works(cx, hello).await
}

async fn wrong_name(cx: &Cx) -> Checked<Side> {
    let hello = Hello {
        name: Some("someone-else.example"),
        ..Hello::default()
    };
    let refused = refused(cx, &hello).await?;
    match refused.and_then(|refused| refused.alert) {
        Some(49 | 112) => Ok(Side::Derpkit),
        Some(80) => Ok(Side::Reference),
        other => Err(Failure::new("alert 49, 80 or 112", format!("{other:?}"))),
    }
}

async fn named_in_capitals(cx: &Cx) -> Checked<Side> {
    let hello = Hello {
        in_capitals: true,
        ..Hello::default()
    };
    match refused(cx, &hello).await? {
        None => works(cx, hello).await.map(|()| Side::Derpkit),
        Some(Refused {
            alert: Some(80), ..
        }) => Ok(Side::Reference),
        Some(refused) => Err(Failure::new("TLS, or alert 80", refused.text)),
    }
}

async fn unnamed(cx: &Cx) -> Checked {
    let hello = Hello {
        // Addresses are not sent as names.
        name: Some("192.0.2.1"),
        ..Hello::default()
    };
    let refused = refused(cx, &hello).await?;
    ensure(refused.is_some(), "an alert", "TLS")
}

async fn tickets(cx: &Cx, versions: Versions) -> Checked<Side> {
    let login = Login {
        hello: by_version(versions),
        ..Login::new()
    };
    let mut peer = cx.log_in(&login).await?;
    // Tickets come behind the handshake, and in front of the answer.
    peer.ping().await?;
    let handshake = peer.conn.handshake.as_ref();
    let gives = handshake.is_some_and(|handshake| handshake.tickets.count() > 0);
    let gives = gives != (cx.fault() == Some(Fault::Tickets));
    Ok(if gives {
        Side::Reference
    } else {
        Side::Derpkit
    })
}

async fn group(cx: &Cx, group: NamedGroup) -> Checked {
    let known = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
    let group = *known
        .iter()
        .find(|known| known.name() == group)
        .expect("the library knows all groups of these cases");
    let hello = Hello {
        group: Some(group),
        ..Hello::default()
    };
    let conn = cx.open_by(&hello).await?;
    let seen = conn.handshake.and_then(|handshake| handshake.group);
    same("group", seen, Some(group.name()))?;
    works(cx, hello).await
}
