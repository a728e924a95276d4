//! A relay for those whose keys are in a table of a database: `database FILE.sqlite`.
//!
//! ```sql
//! CREATE TABLE nodes (key TEXT PRIMARY KEY);  -- nodekey:…
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use derp_proto::NodePrivate;
use derp_server::{ListenOptions, Server};
use derp_verify::{Candidate, Verdict, Verifier, VerifyError, async_trait};
use rusqlite::{Connection, OpenFlags};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let file = std::env::args_os().nth(1).unwrap_or_default();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random bytes");
    let server = Server::builder(NodePrivate::from_random(seed))
        .verifier(Table(file.into()))
        .start()?;
    let listener = TcpListener::bind("127.0.0.1:3340").await?;
    server.serve(listener, ListenOptions::plain("http")).await;
    Ok(())
}

/// A database with a table `nodes`.
#[derive(Debug)]
pub(crate) struct Table(pub(crate) PathBuf);

#[async_trait]
impl Verifier for Table {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let (file, key) = (self.0.clone(), client.key.to_string());
        // The database waits for a disk, which nobody else shall.
        let known = tokio::task::spawn_blocking(move || is_known(&file, &key)).await;
        let no_answer = |error: Box<dyn Error + Send + Sync>| {
            VerifyError::unreachable(format!("{}", self.0.display()), error)
        };
        match known.map_err(|error| no_answer(error.into()))? {
            Ok(true) => Ok(Verdict::allow()),
            Ok(false) => Ok(Verdict::deny("not in the table")),
            Err(error) => Err(no_answer(error.into())),
        }
    }
}

fn is_known(file: &Path, key: &str) -> rusqlite::Result<bool> {
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    database
        .prepare("SELECT 1 FROM nodes WHERE key = ?1")?
        .exists([key])
}
