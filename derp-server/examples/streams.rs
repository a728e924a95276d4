//! A relay over streams that are no TCP connections: a Unix socket, and pipes within the process.

use derp_client::{Client, Login, Received};
use derp_proto::NodePrivate;
use derp_server::{ListenOptions, Server};
use derp_verify::ConnMeta;
use tokio::io::{DuplexStream, duplex};
use tokio::net::UnixListener;

/// What a pipe holds, in bytes.
const PIPE: usize = 64 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder(key()).start()?;
    let mut inside = Client::handshake_over(pipe(&server), &Login::new(key())).await?;
    let serving = server.clone();
    let listener = UnixListener::bind("derp.sock")?;
    tokio::spawn(async move { serving.serve(listener, ListenOptions::plain("unix")).await });
    // Whoever comes by the socket reaches the one inside, and hears back from it.
    loop {
        if let Received::Packet { src, packet } = inside.recv().await? {
            inside.send(src, &packet).await?;
        }
    }
}

fn key() -> NodePrivate {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random bytes");
    NodePrivate::from_random(seed)
}

/// The client's end of a connection within the process.
pub(crate) fn pipe(server: &Server) -> DuplexStream {
    let (ours, theirs) = duplex(PIPE);
    let server = server.clone();
    tokio::spawn(async move {
        // There is no HTTP within a process: `serve_stream` is for streams that begin with it.
        if let Err(error) = server.serve_upgraded(ours, ConnMeta::default()).await {
            tracing::debug!(%error, "a client has left");
        }
    });
    theirs
}
