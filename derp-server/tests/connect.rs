//! A connection that leads through the relay to elsewhere, over real sockets and TLS.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;

use bytes::Bytes;
use derp_proto::NodePrivate;
use derp_server::{Connect, Extra, ListenOptions, Pages, PagesConfig, Server};
use derp_verify::{ConnMeta, TlsVersion};
use http::{Request, Response};
use support::{tls, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Leads everybody who asks for one host to this place, and nobody anywhere else.
#[derive(Debug)]
struct Leads(String);

impl Extra for Leads {
    fn respond(&self, _: &Request<()>, _: &ConnMeta) -> Option<Response<Bytes>> {
        None
    }

    fn may_debug(&self, _: &Request<()>, _: &ConnMeta) -> bool {
        false
    }

    fn connect(&self, request: &Request<()>, _: &ConnMeta) -> Connect {
        match request.uri().authority() {
            Some(host) if host == "a.example:443" => Connect::To(self.0.clone()),
            _ => Connect::Refused,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_elsewhere_through_the_relay() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = elsewhere.local_addr().unwrap().to_string();
    let server = Server::builder(NodePrivate::from_random([7; 32]))
        .pages(Pages::new(PagesConfig::default(), Leads(there)))
        .workers(1)
        .start()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(tls::server(server.public_key()));
    let served = server.clone();
    tokio::spawn(async move {
        served
            .serve(listener, ListenOptions::tls("main", config))
            .await;
    });
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connect = || async {
            let tcp = TcpStream::connect(address).await.unwrap();
            within("a handshake", tls::connect(tcp, version))
                .await
                .unwrap()
        };
        let mut client = connect().await;
        let request = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nhello";
        client.write_all(request).await.unwrap();
        let (mut other, _) = within("a connection", elsewhere.accept()).await.unwrap();
        let mut heard = [0; 5];
        within("the client's bytes", other.read_exact(&mut heard))
            .await
            .unwrap();
        assert_eq!(&heard, b"hello");
        other.write_all(b"welcome").await.unwrap();
        drop(other);
        let mut answer = Vec::new();
        // Not every end is a good-bye of TLS.
        let _ended = within("an answer", client.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"HTTP/1.1 200 OK\r\n\r\nwelcome");

        let mut client = connect().await;
        let request = b"CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let _ended = within("an answer", client.read_to_end(&mut answer)).await;
        assert!(answer.starts_with(b"HTTP/1.1 403 Forbidden\r\n"));
    }
    for version in TlsVersion::ALL {
        let versions = server.metrics().tls_versions();
        assert_eq!(
            (versions.requests(version), versions.clients(version)),
            (2, 0)
        );
    }
    server.shutdown().await;
}
