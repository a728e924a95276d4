//! What a client says of itself, as JSON in its box: what is understood and what is refused
//! (`derp/derp.go`, `types/key/derp.go`, Go's `encoding/json`).

use super::login::{either, send_login};
use crate::case::{Case, differs, must};
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{SERVER_INFO, WATCH_CONNS, frame};
use crate::verdict::{Checked, Side};

const PROTOCOL: &str = "derp/derp.go";
const SERVER: &str = "derp/derpserver/derpserver.go";
const JSON: &str = "derp/derp.go, encoding/json";
const MESH_64: &str = "abababababababababababababababababababababababababababababababab";
const LONG_MESH_KEY: &str =
    r#"{"meshKey":"ababababababababababababababababababababababababababababababababab"}"#;
const NO_DIGITS: &str =
    r#"{"meshKey":"zzababababababababababababababababababababababababababababababab"}"#;
const ADMITTED: &[Fault] = &[Fault::EndAt(SERVER_INFO)];
const ENDED: &[Fault] = &[Fault::NoEnd];

pub(super) const CASES: &[Case] = &[
    must!(admitted("{}"), "Information may be empty: `{}`.", JSON).red_by(ADMITTED),
    must!(admitted("null"), "Information may be `null`.", JSON).red_by(ADMITTED),
    must!(
        admitted(r#"{"version":2,"CanAckPings":false,"IsProber":true}"#),
        "Probers are admitted.",
        PROTOCOL
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"version":99}"#),
        "Clients of later versions are admitted.",
        SERVER
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"version":0}"#),
        "Clients of no version are admitted.",
        SERVER
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"VERSION":2,"canackpings":true,"isprober":false}"#),
        "Names of fields have no case.",
        JSON
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"version":2,"Future":{"a":[1,null,"x"]}}"#),
        "Unknown fields are ignored.",
        JSON
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"version":1,"version":2}"#),
        "A field may come twice.",
        JSON
    )
    .red_by(ADMITTED),
    must!(
        admitted(" {\"version\" : 2}\n\t"),
        "Spaces do not matter.",
        JSON
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"version":null,"CanAckPings":null}"#),
        "A field may be null.",
        JSON
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"version":2,"AppName":"a\u0041\n\"\u00e9"}"#),
        "Texts may have escapes.",
        JSON
    )
    .red_by(ADMITTED),
    must!(
        admitted(r#"{"version":-5}"#),
        "Versions may be negative.",
        JSON
    )
    .red_by(ADMITTED),
    must!(
        wrong_mesh_key(),
        "Who shows another mesh key is an ordinary client.",
        SERVER
    )
    .red_by(&[Fault::EndAt(SERVER_INFO), Fault::NoEnd]),
    must!(
        longest(16 << 10),
        "Information may fill a frame of 16 KiB.",
        SERVER
    )
    .red_by(ADMITTED),
    must!(refused(""), "Empty information is refused.", JSON).red_by(ENDED),
    must!(refused("[]"), "A list is refused.", JSON).red_by(ENDED),
    must!(refused("7"), "A number is refused.", JSON).red_by(ENDED),
    must!(refused("{"), "Half an object is refused.", JSON).red_by(ENDED),
    must!(
        refused(r#"{"version":2}x"#),
        "Anything behind the object is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"version":2,}"#),
        "A comma behind the last field is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused("\u{feff}{}"),
        "A byte order mark is refused.",
        "RFC 8259, 8.1"
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"version":"2"}"#),
        "A version in quotes is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"version":2.0}"#),
        "A version with a fraction is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"version":1e1}"#),
        "A version with an exponent is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"version":9223372036854775808}"#),
        "A version of more than 64 bits is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"CanAckPings":1}"#),
        "A number in place of a truth is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"AppName":7}"#),
        "A number in place of a text is refused.",
        JSON
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"meshKey":""}"#),
        "An empty mesh key is refused.",
        "types/key/derp.go"
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"meshKey":null}"#),
        "A mesh key of null is refused.",
        "types/key/derp.go"
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"meshKey":"abcdef"}"#),
        "A short mesh key is refused.",
        "types/key/derp.go"
    )
    .red_by(ENDED),
    must!(
        refused(LONG_MESH_KEY),
        "A long mesh key is refused.",
        "types/key/derp.go"
    )
    .red_by(ENDED),
    must!(
        refused(NO_DIGITS),
        "A mesh key with other characters than digits is refused.",
        "types/key/derp.go"
    )
    .red_by(ENDED),
    must!(
        refused(r#"{"meshKey":7}"#),
        "A mesh key that is no text is refused.",
        "types/key/derp.go"
    )
    .red_by(ENDED),
    differs!(
        odd_json(br#"{"version":-0}"#),
        "A version of minus zero is refused or taken.",
        JSON,
        derpkit: "refused",
        reference: "taken",
        page: "`\"version\":-0`"
    )
    .red_by(ENDED),
    differs!(
        odd_json(b"{\"AppName\":\"\xff\"}"),
        "Text that is no Unicode is refused or taken.",
        JSON,
        derpkit: "refused",
        reference: "taken",
        page: "text that is no Unicode"
    )
    .red_by(ENDED),
    differs!(
        odd_json(br#"{"AppName":"\ud800"}"#),
        "Half a surrogate pair is refused or taken.",
        JSON,
        derpkit: "refused",
        reference: "taken",
        page: "text that is no Unicode"
    )
    .red_by(ENDED),
];

async fn admitted(cx: &Cx, json: &str) -> Checked {
    let (mut conn, private, server) = send_login(cx, json.as_bytes()).await?;
    conn.admitted(cx, &private, &server).await.map(|_| ())
}

async fn wrong_mesh_key(cx: &Cx) -> Checked {
    let json = format!(r#"{{"meshKey":"{MESH_64}","version":2}}"#);
    let (mut conn, private, server) = send_login(cx, json.as_bytes()).await?;
    conn.admitted(cx, &private, &server).await?;
    conn.send(frame(WATCH_CONNS, &[])).await;
    conn.ends(cx).await
}

async fn longest(cx: &Cx, len: usize) -> Checked {
    // Key, nonce and tag are 72 bytes.
    let json = format!("{:<width$}", "{}", width = len - 72);
    admitted(cx, &json).await
}

async fn refused(cx: &Cx, json: &str) -> Checked {
    let (mut conn, ..) = send_login(cx, json.as_bytes()).await?;
    conn.ends(cx).await
}

async fn odd_json(cx: &Cx, json: &[u8]) -> Checked<Side> {
    let (mut conn, private, server) = send_login(cx, json).await?;
    either(cx, &mut conn, &private, &server).await
}
