//! A relay inside of a program of one's own, on a port of its own: `http://127.0.0.1:3340/derp`.

use derp_proto::NodePrivate;
use derp_server::{ListenOptions, Server};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    relay(TcpListener::bind("127.0.0.1:3340").await?).await
}

/// Relays packets between all who connect, until the future is dropped.
pub(crate) async fn relay(listener: TcpListener) -> std::io::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random bytes");
    let server = Server::builder(NodePrivate::from_random(seed)).start()?;
    server.serve(listener, ListenOptions::plain("http")).await;
    Ok(())
}
