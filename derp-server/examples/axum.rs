//! A relay beside the routes of an axum server that one has already.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use derp_proto::NodePrivate;
use derp_server::{Mounted, Server, Upgrading, mount};
use derp_verify::ConnMeta;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random bytes");
    let server = Server::builder(NodePrivate::from_random(seed)).start()?;
    let listener = TcpListener::bind("127.0.0.1:3340").await?;
    let app = router(server).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await
}

/// A page of one's own, and the relay where its clients look for it.
pub(crate) fn router(server: Server) -> Router {
    Router::new()
        .route("/", get(|| async { "a page of one's own\n" }))
        .route("/derp", any(derp))
        .route("/derp/{*probe}", any(derp))
        .with_state(server)
}

async fn derp(
    State(server): State<Server>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let response = match mount(&mut request, &server.public_key()) {
        Mounted::Respond(response) => response,
        Mounted::Upgrade {
            response,
            upgrading,
        } => {
            tokio::spawn(serve(server, upgrading, peer));
            response
        }
    };
    response.map(Body::from)
}

/// Serves a client until it leaves.
async fn serve(server: Server, upgrading: Upgrading, peer: SocketAddr) {
    let mut conn = ConnMeta::default();
    conn.socket_peer = Some(peer);
    let Ok(stream) = upgrading.stream().await else {
        return;
    };
    if let Err(error) = server.serve_upgraded(stream, conn).await {
        tracing::debug!(%peer, %error, "a client has left");
    }
}
