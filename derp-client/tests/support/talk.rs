//! Connectors for tests, and checks that a connection works.

use std::sync::Arc;

use bytes::Bytes;
use derp_client::{Client, ConnectError, Connector, Login, Received, Roots, Target};
use derp_proto::{ClientFrame, DerpNode, ServerFrame, ServerInfo};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tls::{Authority, Listener, meta_cert};
use super::{ALICE, Peer, client_key, server_key};

pub fn login() -> Login {
    Login::new(client_key())
}

pub fn connector() -> Connector {
    // Nothing is trusted that a test does not trust.
    Connector::new().with_roots(Roots::Custom(Arc::new(RootCertStore::empty())))
}

pub fn trusting(authority: &Authority) -> Connector {
    Connector::new().with_roots(Roots::Custom(authority.roots()))
}

pub fn meta() -> CertificateDer<'static> {
    meta_cert(&server_key().public())
}

/// Checks that both sides understand each other.
pub async fn talk<S>(client: &mut Client, peer: &mut Peer<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    assert_eq!(
        client.recv().await.expect("it is admitted"),
        Received::ServerInfo(ServerInfo::plain())
    );
    client.send(ALICE, b"there").await.expect("it is sent");
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: b"there",
    })
    .await;
    peer.send(ServerFrame::RecvPacket {
        src: ALICE,
        packet: b"back",
    })
    .await;
    let packet = Bytes::from_static(b"back");
    assert_eq!(
        client.recv().await.expect("a packet"),
        Received::Packet { src: ALICE, packet }
    );
}

/// Connects while a relay with the meta certificate serves one connection, and both talk.
pub async fn served(
    connector: Connector,
    listener: &Listener,
    node: DerpNode,
) -> Result<Client, ConnectError> {
    let target = Target::Node(node);
    let login = login();
    let server = async {
        // The client may go away in the middle of the handshake.
        let mut peer = listener.accept_tls().await.ok()?;
        peer.request().await;
        let hello = peer.fast_start().await;
        peer.admit(&hello, &ServerInfo::plain()).await;
        Some(peer)
    };
    let (client, peer) = tokio::join!(connector.connect(&target, &login), server);
    let mut client = client?;
    talk(&mut client, &mut peer.expect("a connection")).await;
    Ok(client)
}
