//! A service that leaves politely: at ctrl-c, the clients of the relay inside are told to go
//! elsewhere, and leave one after another.

use std::future::Future;
use std::time::Duration;

use derp_proto::NodePrivate;
use derp_server::{DrainPlan, DrainReport, ListenOptions, Server};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3340").await?;
    let interrupted = async {
        // Without the signal there is no end, and none is needed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let report = service(listener, interrupted).await?;
    tracing::info!(
        told = report.told,
        cut_off = report.cut_off,
        "clients have left"
    );
    Ok(())
}

/// Relays until `end`, and says how the clients left.
pub(crate) async fn service(
    listener: TcpListener,
    end: impl Future<Output = ()>,
) -> std::io::Result<DrainReport> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random bytes");
    let server = Server::builder(NodePrivate::from_random(seed)).start()?;
    let report = tokio::select! {
        () = server.serve(listener, ListenOptions::plain("http")) => DrainReport::default(),
        () = end => {
            // All of them at once would be a burden for whichever relay they go to.
            let plan = DrainPlan {
                spread: Duration::from_secs(5),
                try_for: Duration::from_secs(60),
                hard_stop: Duration::from_secs(15),
            };
            server.drain(plan).await
        }
    };
    server.shutdown().await;
    Ok(report)
}
