//! The port of plain HTTP beside TLS (`cmd/derper/derper.go`, `tsweb/tsweb.go`).

use crate::case::{Case, Needs, differs, must};
use crate::context::Cx;
use crate::fault::Fault;
use crate::http::{Response, request};
use crate::verdict::{Checked, Failure, Side, same, same_bytes};

const DERPER: &str = "cmd/derper/derper.go";

/// Header names have no case, and servers write them in different ones.
const REPEATED: &[Fault] = &[Fault::Head("response ", ""), Fault::Head("204", "200")];

pub(super) const CASES: &[Case] = &[
    must!(
        port_no_content(),
        "The plain port answers /generate_204, with the challenge.",
        DERPER
    )
    .needs(Needs::HTTP_PORT)
    .red_by(REPEATED),
    must!(
        port_redirects("GET", "/", "/"),
        "The plain port leads from / to https.",
        "tsweb/tsweb.go"
    )
    .needs(Needs::HTTP_PORT)
    .red_by(&[
        Fault::Head("302", "200"),
        Fault::Head("https://", "http://"),
    ]),
    must!(
        port_redirects("GET", "/a/b?c=d&e", "/a/b?c=d&e"),
        "The plain port keeps path and query.",
        "tsweb/tsweb.go"
    )
    .needs(Needs::HTTP_PORT)
    .red_by(&[Fault::Head("c=d", "c=")]),
    must!(
        port_redirects("HEAD", "/a", "/a"),
        "The plain port redirects HEAD.",
        "tsweb/tsweb.go"
    )
    .needs(Needs::HTTP_PORT)
    .red_by(&[Fault::Head("302", "200")]),
    must!(
        port_post(),
        "The plain port tells whoever sends more than a question to use HTTPS.",
        "tsweb/tsweb.go"
    )
    .needs(Needs::HTTP_PORT)
    .red_by(&[Fault::Head("400", "302"), Fault::Body("HTTPS", "HTTP")]),
    must!(port_no_derp(), "The plain port speaks no DERP.", DERPER)
        .needs(Needs::HTTP_PORT)
        .red_by(&[Fault::Head("302", "101")]),
    differs!(
        port_host(),
        "The plain port redirects to its own name, or to what the request says.",
        "tsweb/tsweb.go",
        derpkit: "its own",
        reference: "the request's",
        page: "Port 80 redirects to the configured host name."
    )
    .needs(Needs::HTTP_PORT)
    .red_by(&[
        Fault::Head("https://", "https://stranger.example/"),
        Fault::Head("302", "200"),
    ]),
];

/// Asks on the plain port.
async fn ask_port(cx: &Cx, method: &str, path: &str, headers: &str) -> Checked<Response> {
    let mut conn = open_port(cx).await?;
    conn.send(request(cx.target(), method, path, headers)).await;
    conn.response(method).await
}

async fn open_port(cx: &Cx) -> Checked<crate::conn::Conn> {
    let port = cx.target().http_port;
    let port = port.ok_or_else(|| Failure::new("a plain port", "none"))?;
    cx.open_tcp(&cx.target().http_address(port)).await
}

async fn port_no_content(cx: &Cx) -> Checked {
    let header = "X-Tailscale-Challenge: a\r\n";
    let response = ask_port(cx, "GET", "/generate_204?t=1", header).await?;
    same("status", response.status(), 204)?;
    let answer = response.header("X-Tailscale-Response");
    same("answer", answer, Some("response a"))
}

async fn port_redirects(cx: &Cx, method: &str, path: &str, expected: &str) -> Checked {
    // Those with access to the figures are led to them, so come as a stranger.
    let stranger = "X-Forwarded-For: 192.0.2.1\r\n";
    let response = ask_port(cx, method, path, stranger).await?;
    same("status", response.status(), 302)?;
    let location = response.header("Location").unwrap_or_default();
    let led_to = location
        .strip_prefix("https://")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    same("path", led_to, Some(expected))
}

async fn port_post(cx: &Cx) -> Checked {
    let response = ask_port(cx, "POST", "/", "Content-Length: 0\r\n").await?;
    same("status", response.status(), 400)?;
    same_bytes("body", &response.body, b"Use HTTPS\n")
}

async fn port_no_derp(cx: &Cx) -> Checked {
    let headers = "Connection: Upgrade\r\nUpgrade: DERP\r\n";
    let response = ask_port(cx, "GET", "/derp", headers).await?;
    same("status", response.status(), 302)
}

async fn port_host(cx: &Cx) -> Checked<Side> {
    let mut conn = open_port(cx).await?;
    conn.send("GET /a HTTP/1.1\r\nHost: stranger.example\r\n\r\n")
        .await;
    let response = conn.response("GET").await?;
    same("status", response.status(), 302)?;
    match response.header("Location") {
        Some("https://stranger.example/a") => Ok(Side::Reference),
        Some(other) if other.starts_with("https://") && !other.contains("stranger") => {
            Ok(Side::Derpkit)
        }
        other => Err(Failure::new("a redirect", format!("{other:?}"))),
    }
}
