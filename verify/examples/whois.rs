//! Asks a tailscaled about a node's key: `cargo run --example whois -- SOCKET nodekey:…`.
//!
//! Exits with 0 where the key is admitted, 1 where it is denied and 2 where there is no answer.

use std::error::Error;
use std::process::ExitCode;

use derp_proto::NodePublic;
use derp_verify::{Candidate, ConnMeta, Tailscaled, Verifier};

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example for people"
)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [socket, key] = args.as_slice() else {
        return Err("usage: whois SOCKET nodekey:…".into());
    };
    let key: NodePublic = key.parse()?;
    let tailscaled = Tailscaled::new(socket);
    match tailscaled.own_key().await {
        Ok(Some(own)) => println!("this tailscaled's own key is {own}"),
        Ok(None) => println!("this tailscaled is logged out"),
        Err(err) => eprintln!("own key: {err}"),
    }
    match tailscaled
        .verify(&Candidate::new(key, &ConnMeta::default()))
        .await
    {
        Ok(verdict) if verdict.allow => {
            println!("admitted");
            Ok(ExitCode::SUCCESS)
        }
        Ok(verdict) => {
            println!("denied: {}", verdict.reason);
            Ok(ExitCode::from(1))
        }
        Err(err) => {
            eprintln!("no answer: {err}");
            let mut source = err.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            Ok(ExitCode::from(2))
        }
    }
}
