//! A relay with a self-signed certificate for 127.0.0.1: `relay PORT [MESH_KEY]`.

use std::sync::Arc;
use std::time::SystemTime;

use derp_proto::{MeshKey, NodePrivate};
use derp_server::tls::{CertifiedChain, ServedCertificate, ServerTls, SniPolicy};
use derp_server::{ListenOptions, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port = args.next().unwrap_or_else(|| "0".to_owned());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random bytes");
    let mut builder = Server::builder(NodePrivate::from_random(seed));
    if let Some(mesh) = args.next() {
        builder = builder.mesh_key(MeshKey::from_secret_text(&mesh)?);
    }
    let server = builder.start()?;
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let chain = CertifiedChain::from_der(vec![made.cert.der().clone()], key.into())?;
    let certificate = ServedCertificate {
        names: SniPolicy::Any,
        chain,
    };
    #[expect(clippy::disallowed_methods, reason = "a program reads the clock")]
    let tls = ServerTls::new(server.public_key(), vec![certificate], SystemTime::now())?;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    server
        .serve(listener, ListenOptions::tls("https", Arc::new(tls)))
        .await;
    Ok(())
}
