//! A netcat between two keys, over any relay: what is typed here comes out there, encrypted on the
//! way, so that the relay sees none of it.
//!
//! ```sh
//! derpcat https://derp.example.com              # prints a key, and waits for somebody
//! derpcat https://derp.example.com nodekey:…    # talks to whoever has that key
//! ```
//!
//! A relay may drop packets when it or the other side is busy, as a network does; whoever wants
//! every byte to arrive puts a protocol on top that repeats.

#![expect(
    clippy::print_stderr,
    reason = "standard output is for what the other side says"
)]

use std::error::Error;

use crypto_box::aead::{Aead, AeadCore, OsRng};
use crypto_box::{Nonce, PublicKey, SalsaBox, SecretKey};
use derp_client::{Client, Connector, Login, Received, ServerUrl};
use derp_proto::{NodePrivate, NodePublic};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is read at a time. A packet of a relay has room for 64 KiB.
const CHUNK: usize = 16 << 10;
const NONCE_LEN: usize = 24;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url: ServerUrl = args.next().ok_or("usage: derpcat URL [KEY]")?.parse()?;
    let peer = args
        .next()
        .map(|key| key.parse::<NodePublic>())
        .transpose()?;

    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("no random bytes: {error}"))?;
    let key = NodePrivate::from_random(seed);
    eprintln!("this side is {}", key.public());
    let client = Connector::new()
        .connect(&url.into(), &Login::new(key.clone()))
        .await?;
    cat(client, &key, peer, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Passes `input` to the peer, and what the peer sends to `output`, until either side has nothing
/// more to say. Without a peer, whoever is the first to send something becomes the peer.
pub(crate) async fn cat(
    client: Client,
    key: &NodePrivate,
    peer: Option<NodePublic>,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), Box<dyn Error>> {
    let secret = SecretKey::from(*key.expose_secret_bytes());
    let between = |peer: &NodePublic| SalsaBox::new(&PublicKey::from(*peer.as_bytes()), &secret);
    let mut talk = peer.map(|peer| (peer, between(&peer)));
    let (mut reader, writer) = client.split();
    let mut chunk = vec![0; CHUNK];
    loop {
        tokio::select! {
            read = input.read(&mut chunk), if talk.is_some() => {
                let read = read?;
                let Some((peer, cipher)) = &talk else { continue };
                let nonce = SalsaBox::generate_nonce(&mut OsRng);
                let sealed = cipher.encrypt(&nonce, &chunk[..read]).map_err(|_| "too long")?;
                writer.send(*peer, &[&nonce[..], &sealed].concat()).await?;
                // An empty chunk says goodbye.
                if read == 0 {
                    writer.shutdown().await;
                    return Ok(());
                }
            }
            received = reader.recv() => {
                let Received::Packet { src, packet } = received? else { continue };
                // What does not open is not from whom it says, or was made to look like it.
                let Some((nonce, sealed)) = packet.split_at_checked(NONCE_LEN) else { continue };
                let (_, cipher) = talk.get_or_insert_with(|| (src, between(&src)));
                match cipher.decrypt(Nonce::from_slice(nonce), sealed) {
                    Ok(text) if text.is_empty() => return Ok(()),
                    Ok(text) => {
                        output.write_all(&text).await?;
                        output.flush().await?;
                    }
                    Err(_) => eprintln!("{src} sent something that does not open"),
                }
            }
        }
    }
}
