//! A web server for tests that says what it is told to, whatever it is asked.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers one connection after the other, each with the next answer, and closes it. Returns the
/// requests.
pub(crate) async fn serve(listener: TcpListener, answers: Vec<Vec<u8>>) -> Vec<String> {
    let mut requests = Vec::new();
    for answer in answers {
        let (stream, _) = listener.accept().await.expect("a connection");
        requests.push(answer_one(stream, &answer).await);
    }
    requests
}

/// Reads a request with its body, answers, and closes the connection.
pub(crate) async fn answer_one(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
) -> String {
    let mut request = Vec::new();
    while !is_whole(&request) {
        assert!(
            stream.read_buf(&mut request).await.expect("a request") > 0,
            "no request"
        );
    }
    // Whoever has read enough of the answer hangs up.
    let _hung_up = stream.write_all(answer).await;
    let _hung_up = stream.shutdown().await;
    String::from_utf8(request).expect("a request in text")
}

/// Whether the request is there with all of the body that it announces.
fn is_whole(request: &[u8]) -> bool {
    let request = String::from_utf8_lossy(request);
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let length = value.parse().ok();
        length.filter(|_: &usize| name.eq_ignore_ascii_case("content-length"))
    });
    body.len() >= lengths.sum()
}

/// An answer with this document.
pub(crate) fn ok(document: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        document.len()
    );
    [head.as_bytes(), document].concat()
}
