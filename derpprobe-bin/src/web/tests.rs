//! Documents, and servers that send something else.

use std::time::Duration;

use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::authority::Authority;
use crate::report::in_words;

fn web() -> Web {
    Web::new(&Trust::of(RootCertStore::empty()))
}

fn patient() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// What comes of fetching at most ten bytes from a server that answers so; `URL` stands for its
/// root in the words and requests.
async fn fetch(answers: &[&str]) -> (Result<Bytes, String>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let answers: Vec<_> = answers
        .iter()
        .map(|answer| answer.replace("URL", &root).into_bytes())
        .collect();
    let server = tokio::spawn(script::serve(listener, answers));
    let url: Uri = format!("{root}/map?q=1").parse().unwrap();
    let document = web().get(&url, 10, patient()).await;
    let requests = server.await.unwrap();
    let lines = requests.iter().filter_map(|request| request.lines().next());
    let document = document.map_err(|err| in_words(&err).replace(&root, "URL"));
    (document, lines.map(str::to_owned).collect())
}

#[tokio::test]
async fn documents_come_in_every_form_of_http() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n0123456789",
    ] {
        let (document, requests) = fetch(&[answer]).await;
        assert_eq!(document.as_deref(), Ok(&b"0123456789"[..]), "{answer}");
        assert_eq!(requests, ["GET /map?q=1 HTTP/1.1"]);
    }
}

#[tokio::test]
async fn no_more_is_read_than_there_may_be() {
    let too_long = Err("URL/map?q=1 sends more than 10 bytes".to_owned());
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n0123456789a".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n"
            .to_owned(),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(8 << 20)),
    ] {
        assert_eq!(fetch(&[&answer]).await.0, too_long);
    }
}

#[tokio::test]
async fn redirects_are_followed_within_the_scheme() {
    let moved =
        |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let here = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere";
    let (document, requests) = fetch(&[&moved("/b"), &moved("URL/c?d"), here]).await;
    assert_eq!(document.as_deref(), Ok(&b"here"[..]));
    assert_eq!(requests[1..], ["GET /b HTTP/1.1", "GET /c?d HTTP/1.1"]);

    let refused = |to: &str, why: &str| {
        Err(format!(
            "URL/map?q=1 redirects to {to:?}, which is not followed: {why}"
        ))
    };
    let unread = "it is neither a URL nor an absolute path";
    for (to, why) in [
        ("https://127.0.0.1/", "the scheme is another one"),
        ("file:///etc/passwd", unread),
        ("c", unread),
        ("//127.0.0.1/c", unread),
    ] {
        assert_eq!(fetch(&[&moved(to)]).await.0, refused(to, why), "{to}");
    }
    let circle = moved("/map?q=1");
    let circle: Vec<&str> = std::iter::repeat_n(circle.as_str(), MOST_REDIRECTS + 1).collect();
    assert_eq!(
        fetch(&circle).await.0,
        refused("URL/map?q=1", "there are too many")
    );
}

#[tokio::test]
async fn what_is_no_document_says_so() {
    let (words, _) = fetch(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]).await;
    assert_eq!(words, Err("URL/map?q=1 answers 404 Not Found".to_owned()));
    let (words, _) = fetch(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]).await;
    assert!(
        words
            .unwrap_err()
            .starts_with("the answer of URL/map?q=1 broke off: ")
    );
    let (words, _) = fetch(&["SSH-2.0-OpenSSH\r\n\r\n"]).await;
    let words = words.unwrap_err();
    assert!(words.contains(" does not answer in HTTP: "), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Uri = format!("http://{}/", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let words = in_words(&web().get(&url, 10, patient()).await.unwrap_err());
    assert_eq!(
        words,
        "timeout after 10s while waiting for the web server's answer"
    );
}

#[tokio::test]
async fn over_tls_somebody_must_vouch_for_the_server() {
    let authority = Authority::new("Test");
    let identity = authority.sign("127.0.0.1", |_| ());
    let config = ServerConfig::builder_with_provider(crate::trust::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert], identity.key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Uri = format!("https://{}/", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = tokio::spawn(async move {
        let refused = acceptor.accept(listener.accept().await.unwrap().0).await;
        assert!(refused.is_err());
        let stream = acceptor
            .accept(listener.accept().await.unwrap().0)
            .await
            .unwrap();
        script::answer_one(stream, &script::ok(b"trusted")).await
    });
    let words = in_words(&web().get(&url, 10, patient()).await.unwrap_err());
    assert!(
        words.starts_with(&format!("no TLS with {}: ", url.authority().unwrap())),
        "{words}"
    );
    assert!(words.contains("certificate"), "{words}");
    let trusting = Web::new(&Trust::of(authority.roots()));
    let document = trusting.get(&url, 10, patient()).await.unwrap();
    assert_eq!(document, "trusted");
    server.await.unwrap();
}
