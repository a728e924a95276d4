//! The HTTP in front of DERP, byte for byte, as clients, browsers, proxies and strangers send it.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod certificate;
mod pages;
mod proxy;
mod refused;
mod start;

use support::Kind;
use support::stream::Stream;
use support::{Relay, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Connects, sends `bytes`, and returns the connection.
async fn send(relay: &Relay, kind: Kind, bytes: impl AsRef<[u8]>) -> Stream {
    let mut stream = within("a connection", relay.open(kind))
        .await
        .expect("a connection");
    let sending = async {
        stream.io.write_all(bytes.as_ref()).await?;
        stream.io.flush().await
    };
    // Where the relay has ended the connection already, what it answered says so.
    let _sent = sending.await;
    stream
}

/// Receives exactly as much as `expected`, and compares.
async fn expect(stream: &mut Stream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    let read = within("the response", stream.io.read_exact(&mut received)).await;
    read.unwrap_or_else(|err| panic!("{err} in {:?}", String::from_utf8_lossy(&received)));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&received), text(expected));
}
