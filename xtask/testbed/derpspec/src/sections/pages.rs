//! What is answered to requests that are not DERP's (`cmd/derper/derper.go`, `tsweb/tsweb.go`).

use crate::case::{Case, Needs, differs, must, should};
use crate::context::Cx;
use crate::fault::Fault;
use crate::http::{Response, request};
use crate::verdict::{Checked, Side, ensure, same, same_bytes};

const HANDLER: &str = "derp/derpserver/handler.go";
const DERPER: &str = "cmd/derper/derper.go";
const TSWEB: &str = "tsweb/tsweb.go";

const NOT_OK: Fault = Fault::Head(" 200 ", " 404 ");

pub(super) const CASES: &[Case] = &[
    must!(
        probe("GET", "/derp/probe"),
        "GET /derp/probe is answered with 200, for all origins, and no body.",
        HANDLER
    )
    .red_by(&[NOT_OK, Fault::Head(": *", ": null"), Fault::NoResponse]),
    must!(
        probe("HEAD", "/derp/probe"),
        "HEAD /derp/probe is answered with 200, for all origins, and no body.",
        HANDLER
    )
    .red_by(&[NOT_OK, Fault::Head(": *", ": null")]),
    must!(
        probe("GET", "/derp/latency-check"),
        "GET /derp/latency-check is answered in the same way.",
        HANDLER
    )
    .red_by(&[NOT_OK, Fault::Head(": *", ": null")]),
    must!(
        probe("HEAD", "/derp/latency-check"),
        "HEAD /derp/latency-check is answered in the same way.",
        HANDLER
    )
    .red_by(&[NOT_OK, Fault::Head(": *", ": null")]),
    must!(
        probe("GET", "/derp/probe?x=y"),
        "A query does not change that.",
        HANDLER
    )
    .red_by(&[NOT_OK]),
    must!(
        no_probe("POST"),
        "POST /derp/probe is answered with 405 and without the permission for all origins.",
        HANDLER
    )
    .red_by(&[Fault::Head("405", "200"), Fault::Body("bogus", "genuine")]),
    must!(no_probe("OPTIONS"), "So is OPTIONS /derp/probe.", HANDLER)
        .red_by(&[Fault::Head("405", "200"), Fault::Body("bogus", "genuine")]),
    must!(
        probes_in_a_row(),
        "Probes may be repeated on a connection, so that its latency is measured.",
        "net/netcheck/netcheck.go"
    )
    .red_by(&[NOT_OK]),
    must!(
        pipelined_probes(),
        "Requests that do not wait for each other are answered in their order.",
        "RFC 9112, 9.3.2"
    )
    .red_by(&[NOT_OK]),
    must!(date(), "Responses are dated.", "RFC 9110, 6.6.1")
        .red_by(&[Fault::Head("ate: ", "ay: ")]),
    must!(robots(), "/robots.txt asks robots to stay away.", DERPER)
        .red_by(&[NOT_OK, Fault::Body("Disallow: /", "Disallow:")]),
    must!(
        home("/"),
        "/ tells people in HTML that this is a DERP server.",
        DERPER
    )
    .red_by(&[
        NOT_OK,
        Fault::Head("text/html", "text/plain"),
        Fault::Body("DERP", "CURP"),
    ]),
    should!(
        home("/no/such/page"),
        "An unknown path is answered like /.",
        DERPER
    )
    .red_by(&[NOT_OK]),
    must!(
        no_derp_at("/derp/x"),
        "/derp/x is no way in, whatever it asks for.",
        DERPER
    )
    .red_by(&[Fault::Head(" 200 ", " 101 ")]),
    must!(no_derp_at("/derp/"), "Nor is /derp/.", DERPER).red_by(&[Fault::Head(" 200 ", " 101 ")]),
    must!(
        no_derp_at("/DERP"),
        "Nor is /DERP: paths have case.",
        DERPER
    )
    .red_by(&[Fault::Head(" 200 ", " 101 ")]),
    must!(
        browser_headers("/"),
        "/ has the headers that browsers need to be safe.",
        TSWEB
    )
    .red_by(&[
        Fault::Head("max-age=63072000", "max-age=0"),
        Fault::Head("DENY", "ALLOW"),
        Fault::Head("nosniff", "sniff"),
        Fault::Head("default-src 'self'", "default-src *"),
    ]),
    must!(
        browser_headers("/robots.txt"),
        "/robots.txt has them.",
        TSWEB
    )
    .red_by(&[Fault::Head("max-age=63072000", "max-age=0")]),
    must!(
        browser_headers("/bootstrap-dns"),
        "/bootstrap-dns has them.",
        TSWEB
    )
    .red_by(&[Fault::Head("max-age=63072000", "max-age=0")]),
    must!(
        no_browser_headers("/derp/probe"),
        "/derp/probe does not have them, for it is for all origins.",
        HANDLER
    )
    .red_by(&[Fault::Head("ate: ", "ate: x\r\nX-Frame-Options: ")]),
    must!(
        bootstrap("/bootstrap-dns"),
        "/bootstrap-dns is answered with 200 and JSON, perhaps none.",
        "cmd/derper/bootstrap_dns.go"
    )
    .red_by(&[NOT_OK, Fault::Head("application/json", "text/html")]),
    must!(
        bootstrap("/bootstrap-dns?q=example.com"),
        "/bootstrap-dns with a name it does not know is as well.",
        "cmd/derper/bootstrap_dns.go"
    )
    .red_by(&[NOT_OK, Fault::Head("application/json", "text/html")]),
    must!(
        bootstrap_ends(),
        "/bootstrap-dns ends its connection.",
        "cmd/derper/bootstrap_dns.go"
    )
    .red_by(&[Fault::NoEnd]),
    differs!(
        page_ends("/"),
        "The connection of / ends with the page, or stays.",
        "net/http of the reference's Go",
        derpkit: "ends",
        reference: "stays",
        page: "Pages but the probes and `/generate_204` end the connection"
    )
    .red_by(&[Fault::NoEnd]),
    differs!(
        hundred_probes(),
        "A connection is good for any number of probes, or for 100.",
        "net/http of the reference's Go",
        derpkit: "100",
        reference: "any number",
        page: "it ends after 100 requests"
    )
    .red_by(&[Fault::NoEnd, NOT_OK]),
    must!(
        close_is_obeyed(),
        "A client that asks for the connection's end behind a probe gets it.",
        "RFC 9112, 9.6"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        no_metrics(),
        "Figures are not for whoever comes through a proxy.",
        TSWEB
    )
    .red_by(&[Fault::Body("", "# TYPE")]),
    must!(
        no_proxy(),
        "A relay is no proxy for strangers: CONNECT is refused.",
        "cmd/derper/ace.go"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Head("403", "200")]),
];

/// Asks on a connection of its own.
pub(super) async fn ask(cx: &Cx, method: &str, path: &str, headers: &str) -> Checked<Response> {
    let mut conn = cx.open().await?;
    conn.send(request(cx.target(), method, path, headers)).await;
    conn.response(method).await
}

async fn probe(cx: &Cx, method: &str, path: &str) -> Checked {
    let response = ask(cx, method, path, "").await?;
    same("status", response.status(), 200)?;
    let origin = response.header("Access-Control-Allow-Origin");
    same("origins", origin, Some("*"))?;
    same_bytes("body", &response.body, b"")
}

async fn no_probe(cx: &Cx, method: &str) -> Checked {
    let response = ask(cx, method, "/derp/probe", "").await?;
    same("status", response.status(), 405)?;
    let origin = response.header("Access-Control-Allow-Origin");
    same("origins", origin, None)?;
    same_bytes("body", &response.body, b"bogus probe method\n")
}

async fn probes_in_a_row(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    for method in ["HEAD", "HEAD", "GET", "HEAD"] {
        conn.send(request(cx.target(), method, "/derp/probe", ""))
            .await;
        same("status", conn.response(method).await?.status(), 200)?;
    }
    Ok(())
}

async fn pipelined_probes(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    let paths = ["/derp/probe", "/generate_204", "/derp/latency-check"];
    let requests = paths.map(|path| request(cx.target(), "GET", path, ""));
    conn.send(requests.concat()).await;
    for status in [200, 204, 200] {
        same("status", conn.response("GET").await?.status(), status)?;
    }
    Ok(())
}

async fn date(cx: &Cx) -> Checked {
    for path in ["/", "/derp/probe", "/generate_204"] {
        let response = ask(cx, "GET", path, "").await?;
        let date = response.header("Date");
        ensure(
            date.is_some_and(|date| date.ends_with(" GMT")),
            "a date",
            format!("{date:?}"),
        )?;
    }
    Ok(())
}

async fn robots(cx: &Cx) -> Checked {
    let response = ask(cx, "GET", "/robots.txt", "").await?;
    same("status", response.status(), 200)?;
    same_bytes("body", &response.body, b"User-agent: *\nDisallow: /\n")
}

async fn home(cx: &Cx, path: &str) -> Checked {
    let response = ask(cx, "GET", path, "").await?;
    same("status", response.status(), 200)?;
    let kind = response.header("Content-Type").unwrap_or_default();
    ensure(kind.starts_with("text/html"), "HTML", kind)?;
    ensure(
        response.text().contains("DERP"),
        "a page about DERP",
        response.text(),
    )
}

async fn no_derp_at(cx: &Cx, path: &str) -> Checked {
    let headers = "Connection: Upgrade\r\nUpgrade: DERP\r\n";
    let response = ask(cx, "GET", path, headers).await?;
    let status = response.status();
    ensure(
        status != 101 && status != 0,
        "a page or a refusal",
        format!("status {status}"),
    )
}

async fn browser_headers(cx: &Cx, path: &str) -> Checked {
    let policy = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; \
                  base-uri 'self'; block-all-mixed-content; object-src 'none'";
    let response = ask(cx, "GET", path, "").await?;
    let hsts = "max-age=63072000; includeSubDomains";
    for (name, value) in [
        ("Strict-Transport-Security", hsts),
        ("Content-Security-Policy", policy),
        ("X-Frame-Options", "DENY"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        same(name, response.header(name), Some(value))?;
    }
    Ok(())
}

async fn no_browser_headers(cx: &Cx, path: &str) -> Checked {
    let response = ask(cx, "GET", path, "").await?;
    for name in ["Content-Security-Policy", "X-Frame-Options"] {
        same(name, response.header(name), None)?;
    }
    Ok(())
}

async fn bootstrap(cx: &Cx, path: &str) -> Checked {
    let response = ask(cx, "GET", path, "").await?;
    same("status", response.status(), 200)?;
    let kind = response.header("Content-Type").unwrap_or_default();
    ensure(kind.starts_with("application/json"), "JSON", kind)?;
    let is_map = response.body.is_empty()
        || serde_json::from_slice::<serde_json::Map<_, _>>(&response.body).is_ok();
    ensure(is_map, "a JSON object, or nothing", response.text())
}

async fn bootstrap_ends(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    conn.send(request(cx.target(), "GET", "/bootstrap-dns", ""))
        .await;
    conn.response("GET").await?;
    same_bytes("behind it", &conn.rest().await?, b"")
}

/// Whether a second request is answered behind the first.
async fn page_ends(cx: &Cx, path: &str) -> Checked<Side> {
    let mut conn = cx.open().await?;
    conn.send(request(cx.target(), "GET", path, "")).await;
    let first = conn.response("GET").await?;
    if first
        .header("Connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    {
        same_bytes("behind it", &conn.rest().await?, b"")?;
        return Ok(Side::Derpkit);
    }
    conn.send(request(cx.target(), "GET", path, "")).await;
    same("second status", conn.response("GET").await?.status(), 200)?;
    Ok(Side::Reference)
}

async fn hundred_probes(cx: &Cx) -> Checked<Side> {
    let mut conn = cx.open().await?;
    for n in 1..=101 {
        conn.send(request(cx.target(), "HEAD", "/derp/probe", ""))
            .await;
        let response = conn.response("HEAD").await?;
        same("status", response.status(), 200)?;
        let last = response.header("Connection");
        if last.is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            same("number of the last request", n, 100)?;
            conn.rest().await?;
            return Ok(Side::Derpkit);
        }
    }
    Ok(Side::Reference)
}

async fn close_is_obeyed(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    let close = "Connection: close\r\n";
    conn.send(request(cx.target(), "GET", "/derp/probe", close))
        .await;
    same("status", conn.response("GET").await?.status(), 200)?;
    same_bytes("behind it", &conn.rest().await?, b"")
}

async fn no_metrics(cx: &Cx) -> Checked {
    let stranger = "X-Forwarded-For: 192.0.2.1\r\n";
    for path in ["/debug/varz", "/debug/vars", "/debug/", "/debug/check"] {
        let response = ask(cx, "GET", path, stranger).await?;
        let text = response.text();
        let shows = [
            "# TYPE",
            "derp_accepts",
            "\"derp\":",
            "ConsistencyCheck okay",
            "Uptime",
        ];
        let is_shown = shows.iter().any(|word| text.contains(word));
        ensure(!is_shown, format!("nothing of {path}"), text)?;
    }
    Ok(())
}

async fn no_proxy(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    conn.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
        .await;
    let response = conn.response("GET").await?;
    same("status", response.status(), 403)
}
