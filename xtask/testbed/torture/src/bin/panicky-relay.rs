//! A relay around whose core everything panics now and then: `panicky-relay PORT [--fatal]`.
//!
//! A verifier panics for clients that call themselves unlucky, a forwarder for the key of 32 times 0xdd, the
//! choice of a certificate for connections from 127.238.238.238, and a page, `/panic`, for
//! everybody. `/debug/varz` tells how many panics the core has counted. With `--fatal` a panic ends
//! the process, as it would without isolation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use derp_proto::{NodePrivate, NodePublic};
use derp_server::tls::{CertifiedChain, ConfigFor, ServedCertificate, ServerTls, SniPolicy};
use derp_server::{Extra, Forwarder, ListenOptions, Pages, PagesConfig, Refused, Server, Tunables};
use derp_verify::{Candidate, ConnMeta, Verdict, Verifier, VerifyError, async_trait};
use http::{Request, Response};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let port = args.next().unwrap_or_default().parse()?;
    if args.next().as_deref() == Some("--fatal") {
        std::panic::set_hook(Box::new(|_| std::process::exit(101)));
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let numbers = Numbers::default();
    // Clients come again and again with the same keys.
    let mut tunables = Tunables::default();
    tunables.key_login_rate = None;
    let server = Server::builder(NodePrivate::from_random(seed))
        .tunables(tunables)
        .verifier(Panicky)
        .pages(Pages::new(PagesConfig::default(), numbers.clone()))
        .start()?;
    server.add_forwarder(NodePublic::from_bytes([0xdd; 32]), Arc::new(Panicky));
    let set = numbers.0.set(server.clone());
    debug_assert!(set.is_ok(), "it is set once");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let tls = Arc::new(PanickyTls(certificate(server.public_key())?));
    server
        .serve(listener, ListenOptions::tls("https", tls))
        .await;
    Ok(())
}

/// A certificate that it signs itself.
fn certificate(server_key: NodePublic) -> anyhow::Result<ServerTls> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let chain = CertifiedChain::from_der(vec![certificate.der().clone()], key)?;
    let names = SniPolicy::Any;
    let served = vec![ServedCertificate { names, chain }];
    #[expect(
        clippy::disallowed_methods,
        reason = "the day that a certificate begins with"
    )]
    let now = SystemTime::now();
    Ok(ServerTls::new(server_key, served, now)?)
}

struct PanickyTls(ServerTls);

impl fmt::Debug for PanickyTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PanickyTls").finish_non_exhaustive()
    }
}

impl ConfigFor for PanickyTls {
    fn config_for(&self, conn: &ConnMeta) -> Option<Arc<ServerConfig>> {
        let unlucky = IpAddr::from([127, 238, 238, 238]);
        let peer = conn.client_addr().map(|addr| addr.ip());
        assert!(peer != Some(unlucky), "an unlucky address");
        self.0.config_for(conn)
    }
}

#[derive(Debug)]
struct Panicky;

#[async_trait]
impl Verifier for Panicky {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        assert!(client.app_name != "unlucky", "an unlucky client");
        Ok(Verdict::allow())
    }
}

impl Forwarder for Panicky {
    fn forward(&self, _: NodePublic, dst: NodePublic, _: &[u8]) -> Result<(), Refused> {
        panic!("an unlucky packet for {dst:?}")
    }
}

/// The server is known only after its pages.
#[derive(Debug, Clone, Default)]
struct Numbers(Arc<OnceLock<Server>>);

impl Extra for Numbers {
    fn respond(&self, request: &Request<()>, _: &ConnMeta) -> Option<Response<Bytes>> {
        match request.uri().path() {
            "/panic" => panic!("an unlucky page"),
            "/debug/varz" => {
                let gauges = self.0.get()?.metrics().gauges();
                let text = format!(
                    "derper_panics {}\nderp_current_connections {}\n",
                    gauges.panics.get(),
                    gauges.connections.get()
                );
                Some(Response::new(text.into()))
            }
            _ => None,
        }
    }

    fn may_debug(&self, _: &Request<()>, _: &ConnMeta) -> bool {
        false
    }
}
