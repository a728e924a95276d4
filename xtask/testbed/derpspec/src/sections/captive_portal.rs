//! What tells clients whether a captive portal answers in a server's place
//! (`net/captivedetection`, `derp/derpserver/handler.go`).

use super::pages::ask;
use crate::case::{Case, must};
use crate::context::Cx;
use crate::fault::Fault;
use crate::verdict::{Checked, same};

const HANDLER: &str = "derp/derpserver/handler.go";

const CACHE: &str = "no-cache, no-store, must-revalidate, no-transform, max-age=0";
const CHALLENGE_64: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const CHALLENGE_65: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
/// What every character of a challenge may be.
const CHALLENGE_ALL: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";

/// Header names have no case, and servers write them in different ones.
const REPEATED: &[Fault] = &[Fault::Head("response ", ""), Fault::Head("204", "200")];

pub(super) const CASES: &[Case] = &[
    must!(
        no_content("GET"),
        "GET /generate_204 is answered with 204.",
        HANDLER
    )
    .red_by(&[Fault::Head("204", "200")]),
    must!(
        no_content("POST"),
        "POST /generate_204 is as well.",
        HANDLER
    )
    .red_by(&[Fault::Head("204", "200")]),
    must!(not_cached(), "No cache may keep that answer.", HANDLER)
        .red_by(&[Fault::Head("no-store", "store")]),
    must!(
        challenge("input", true),
        "A challenge is repeated behind `response `.",
        HANDLER
    )
    .red_by(REPEATED),
    must!(
        challenge("ts_derp99b.tailscale.com", true),
        "A challenge may be a host's name, as clients send it.",
        "net/captivedetection/captivedetection.go"
    )
    .red_by(REPEATED),
    must!(
        challenge("a-b_c:1.2", true),
        "A challenge may have each of `.-_:`.",
        HANDLER
    )
    .red_by(REPEATED),
    must!(
        challenge(CHALLENGE_ALL, true),
        "A challenge may have all letters and digits.",
        HANDLER
    )
    .red_by(REPEATED),
    must!(
        challenge(CHALLENGE_64, true),
        "A challenge may have 64 characters.",
        HANDLER
    )
    .red_by(REPEATED),
    must!(
        challenge(CHALLENGE_65, false),
        "A challenge of 65 characters is not repeated.",
        HANDLER
    )
    .red_by(&[ECHO_FORGED]),
    must!(
        challenge("foo bar", false),
        "A challenge with a space is not repeated.",
        HANDLER
    )
    .red_by(&[ECHO_FORGED]),
    must!(
        challenge("foo/bar", false),
        "A challenge with a slash is not repeated.",
        HANDLER
    )
    .red_by(&[ECHO_FORGED]),
    must!(
        challenge("<b>", false),
        "A challenge with markup is not repeated.",
        HANDLER
    )
    .red_by(&[ECHO_FORGED]),
    must!(
        challenge("f\u{fc}", false),
        "A challenge that is no ASCII is not repeated.",
        HANDLER
    )
    .red_by(&[ECHO_FORGED]),
    must!(challenge("", false), "An empty challenge is none.", HANDLER).red_by(&[ECHO_FORGED]),
];

/// Any header line becomes the answer to a challenge.
const ECHO_FORGED: Fault = Fault::Head("\r\n", "\r\nX-Tailscale-Response: response x\r\n");

async fn no_content(cx: &Cx, method: &str) -> Checked {
    let response = ask(cx, method, "/generate_204?t=1", "").await?;
    same("status", response.status(), 204)?;
    let answer = response.header("X-Tailscale-Response");
    same("answer", answer, None)
}

async fn not_cached(cx: &Cx) -> Checked {
    let response = ask(cx, "GET", "/generate_204", "").await?;
    let cache = response.header("Cache-Control");
    same("Cache-Control", cache, Some(CACHE))
}

async fn challenge(cx: &Cx, challenge: &str, is_repeated: bool) -> Checked {
    let header = format!("X-Tailscale-Challenge: {challenge}\r\n");
    let response = ask(cx, "GET", "/generate_204", &header).await?;
    same("status", response.status(), 204)?;
    let expected = is_repeated.then(|| format!("response {challenge}"));
    let answer = response.header("X-Tailscale-Response");
    same("answer", answer, expected.as_deref())
}
