//! Pages as relays answer them, and as others do.

use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::report::in_words;
use crate::web::script;

/// What is wrong with whoever answers port 80 like this.
async fn on_port_80(answer: &'static [u8]) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let node = DerpNode {
        host_name: "127.0.0.1".to_owned(),
        ..DerpNode::default()
    };
    let server = tokio::spawn(script::serve(listener, vec![answer.to_vec()]));
    let deadline = Deadline::after(Duration::from_secs(10));
    let probed = probe(&node, Port::Plain(port), deadline).await;
    let requests = server.await.unwrap();
    let start = format!("GET /generate_204 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n");
    assert!(requests[0].starts_with(&start), "{requests:?}");
    assert!(
        requests[0].contains("x-tailscale-challenge: ts_"),
        "{requests:?}"
    );
    probed.map_err(|fault| in_words(&fault))
}

#[tokio::test]
async fn a_captive_portal_is_no_relay() {
    let portal = on_port_80(b"HTTP/1.1 302 Found\r\nLocation: http://portal.test/\r\n\r\n").await;
    assert_eq!(
        portal.unwrap_err(),
        "/generate_204: the node answers 302 Found instead of 204 No Content; is it a DERP relay, \
         and does every proxy in front of it pass this path on?"
    );
}

#[tokio::test]
async fn an_answer_without_the_challenge_is_not_the_relays() {
    for (answer, got) in [
        (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], ""),
        (
            b"HTTP/1.1 204 No Content\r\nX-Tailscale-Response: response old\r\n\r\n",
            "response old",
        ),
    ] {
        let words = on_port_80(answer).await.unwrap_err();
        assert!(
            words.contains(&format!(" came back as {got:?} and not as ")),
            "{words}"
        );
    }
}

#[tokio::test]
async fn what_is_no_http_says_so() {
    let words = on_port_80(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap_err();
    let start = "/generate_204: the node does not answer in HTTP: ";
    assert!(words.starts_with(start), "{words}");
}

#[test]
fn the_host_has_its_port_where_it_is_another_one() {
    let table = [
        ("derp.test", 0, Port::Derp, "derp.test"),
        ("derp.test", 8443, Port::Derp, "derp.test:8443"),
        ("2001:db8::1", 443, Port::Derp, "[2001:db8::1]"),
        ("derp.test", 80, Port::Plain(80), "derp.test"),
        ("192.0.2.1", 81, Port::Plain(81), "192.0.2.1:81"),
    ];
    for (host, derp_port, port, expected) in table {
        let node = DerpNode {
            host_name: host.to_owned(),
            derp_port,
            ..DerpNode::default()
        };
        assert_eq!(host_header(&node, port), expected);
    }
}
