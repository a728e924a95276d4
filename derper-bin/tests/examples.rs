//! Examples of other crates that need a relay, run against this one. What they use of further
//! crates, such as `crypto_box`, this crate's tests depend on.

mod support;

#[path = "../../derp-client/examples/derpcat.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod derpcat;

use derp_client::{Client, Connector, Login, ServerUrl};
use derp_proto::NodePrivate;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use self::support::{Running, client_key, config, soon};

const PLAIN: &str = "-a 127.0.0.1:0 -stun=false -c {}/derper.key";

async fn connected(relay: &Running, key: &NodePrivate) -> Client {
    let url: ServerUrl = format!("http://{}", relay.addr).parse().expect("a URL");
    let login = Login::new(key.clone());
    let connected = Connector::new().connect(&url.into(), &login).await;
    let mut client = connected.expect("the relay is there");
    // The relay is sure to know the client once it has answered.
    let _round_trip = client.ping(|_| {}).await.expect("an answer");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn derpcat_talks_to_derpcat() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(config(dir.path(), PLAIN, &[]));
    let [alice, bob] = [1, 2].map(client_key);
    let (mut to_alice, alice_in) = duplex(1 << 20);
    let (alice_out, mut from_alice) = duplex(1 << 20);
    let (_to_bob, bob_in) = duplex(1 << 20);
    let (bob_out, mut from_bob) = duplex(1 << 20);

    let waits = connected(&relay, &bob).await;
    let calls = connected(&relay, &alice).await;
    let peer = Some(bob.public());
    let hears = async { derpcat::cat(waits, &bob, None, bob_in, bob_out).await };
    let says = async { derpcat::cat(calls, &alice, peer, alice_in, alice_out).await };
    let text = b"hello, Bob".repeat(10_000);
    let story = async {
        to_alice.write_all(&text).await.unwrap();
        let mut heard = vec![0; text.len()];
        from_bob.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, text);
        drop(to_alice);
    };
    let (heard, said, ()) = soon(async { tokio::join!(hears, says, story) }).await;
    heard.unwrap();
    said.unwrap();
    let mut answer = Vec::new();
    from_alice.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
    relay.stop().await;
}
