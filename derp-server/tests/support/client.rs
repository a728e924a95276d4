//! A client of derp-client's that has been admitted.

use derp_client::{Client, ClientWriter, Login, Received, RecvError};
use derp_proto::{NodePublic, PeerGoneReason, PeerPresent, ServerInfo};

use super::time::within;

/// A client, and what tests ask of it.
pub struct TestClient {
    pub key: NodePublic,
    client: Client,
}

impl TestClient {
    /// A client that has logged in with `login`, and to which the relay says that it may stay.
    pub async fn admitted(client: Client, login: &Login) -> Self {
        let mut client = Self {
            key: login.key.public(),
            client,
        };
        assert_eq!(
            client.recv().await,
            Received::ServerInfo(ServerInfo::plain())
        );
        client
    }

    /// Sends a packet.
    pub async fn send(&self, dst: NodePublic, packet: &[u8]) {
        within("a send", self.client.send(dst, packet))
            .await
            .expect("a connection");
    }

    /// The handle for everything else that a client may send.
    pub const fn writer(&self) -> &ClientWriter {
        self.client.writer()
    }

    /// The next thing that the relay sends.
    pub async fn recv(&mut self) -> Received {
        within("the relay's next frame", self.client.recv())
            .await
            .expect("a connection")
    }

    /// The next thing, which is a packet: who sent it, and what it is.
    pub async fn packet(&mut self) -> (NodePublic, Vec<u8>) {
        match self.recv().await {
            Received::Packet { src, packet } => (src, packet.to_vec()),
            other => panic!("{other:?} is no packet"),
        }
    }

    /// The next thing, which is that a client has gone: which, and why.
    pub async fn gone(&mut self) -> (NodePublic, PeerGoneReason) {
        match self.recv().await {
            Received::PeerGone { key, reason } => (key, reason),
            other => panic!("{other:?} says of nobody that it has gone"),
        }
    }

    /// The next thing, which is that a client is here.
    pub async fn present(&mut self) -> PeerPresent {
        match self.recv().await {
            Received::PeerPresent(present) => present,
            other => panic!("{other:?} says of nobody that it is here"),
        }
    }

    /// What has come: everything in front of the answer to a ping that is sent now.
    pub async fn received(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        // A pong may come before what waits already, the next one cannot.
        for _ in 0..2 {
            let ping = self.client.ping(|other| received.push(other));
            within("a pong", ping).await.expect("a connection");
        }
        received
    }

    /// Receives until the relay closes the connection; says what came before.
    pub async fn closed(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        loop {
            match within("the connection's end", self.client.recv()).await {
                Ok(more) => received.push(more),
                Err(RecvError::ClosedHere(why)) => panic!("closed here: {why}"),
                Err(RecvError::Silent(_) | RecvError::Protocol(_) | RecvError::OutOfTurn(_)) => {
                    panic!("the relay did not close the connection");
                }
                Err(_) => return received,
            }
        }
    }

    /// The client itself.
    pub fn into_inner(self) -> Client {
        self.client
    }
}
