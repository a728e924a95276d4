//! The probe as a service: every probe runs at its interval for as long as the program does, and
//! what came of it is on a page, in metrics and in a file, and told to whoever wants to hear.
//!
//! ```text
//!   fleet ─► board ─► site: page, status, metrics, go_json
//!     │        └────► history_file
//!     └─► news ─► webhook
//! ```
//!
//! [`fleet`] runs; [`board`] has a [`record`] for each probe, with its [`verdict`], [`totals`] and
//! [`history`]. Everything else reads.
//!
//! # What is not here
//!
//! No alerts by mail and no accounts: Prometheus' alert manager and a web server in front do that.

pub mod board;
pub mod fleet;
pub mod go_json;
pub mod history;
pub mod history_file;
pub mod metrics;
pub mod news;
pub mod page;
pub mod record;
mod settings;
pub mod site;
pub mod status;
pub mod totals;
pub mod verdict;
pub mod webhook;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use derp_ops::listen_addr::{BindError, bind_tcp};
use derp_ops::operators;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

pub use self::settings::Settings;

use self::board::Board;
use self::fleet::Fleet;
use self::history::PIECE;
use self::news::News;
use self::site::Site;
use self::webhook::Posts;
use crate::clock;
use crate::config::Config;
use crate::probe::Prober;

/// A service that has its port.
#[derive(Debug)]
pub struct Service {
    config: Config,
    prober: Prober,
    listener: TcpListener,
}

impl Service {
    /// Binds the port of the pages.
    ///
    /// # Errors
    /// [`BindError`], with what to do.
    pub fn bind(config: Config, prober: Prober) -> Result<Self, BindError> {
        let listener = bind_tcp(config.service.listen, "-listen")?;
        Ok(Self {
            config,
            prober,
            listener,
        })
    }

    /// Where the pages are.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs until `stop` is ready; then the history is written, and everything ends.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self {
            config,
            prober,
            listener,
        } = self;
        let file = config.service.history_file.clone();
        let known = file
            .clone()
            .map(|path| history_file::read(&path, clock::wall()));
        let known = known.unwrap_or_else(|| Ok(std::collections::BTreeMap::new()));
        let known = known.unwrap_or_else(|err| {
            tracing::error!(
                error = crate::report::in_words(&err),
                "the history begins anew"
            );
            std::collections::BTreeMap::new()
        });
        let board = Arc::new(Board::with_histories(known));
        let mut tasks = JoinSet::new();
        let posts = Arc::new(Posts::default());
        let news = match config.service.webhook.clone() {
            None => News::to_nobody(),
            Some(hook) => {
                let (news, changes) = News::channel();
                let web = prober.web().clone();
                tasks.spawn(webhook::post(hook, web, changes, Arc::clone(&posts)));
                news
            }
        };
        let site = Site {
            board: Arc::clone(&board),
            debug: config.service.debug.clone(),
            source: config.source.to_string(),
            started: clock::wall(),
            posts,
            news: news.clone(),
            fleet: Fleet::start(config, prober, Arc::clone(&board), news),
        };
        let site = Arc::new(site);
        tasks.spawn(async move {
            let respond = move |request, from| {
                let site = Arc::clone(&site);
                async move { site.respond(request, from).await }
            };
            match operators::serve(listener, respond).await {}
        });
        if let Some(path) = file.clone() {
            tasks.spawn(keep(path, Arc::clone(&board)));
        }
        stop.await;
        if let Some(path) = file {
            write(path, &board).await;
        }
    }
}

/// Writes the history whenever a piece of it may be whole.
async fn keep(path: PathBuf, board: Arc<Board>) {
    let mut ticks = interval_at(Instant::now() + PIECE, PIECE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        write(path.clone(), &board).await;
    }
}

async fn write(path: PathBuf, board: &Board) {
    let histories = board.histories();
    let shown = path.display().to_string();
    // A disk may be slow.
    let written = tokio::task::spawn_blocking(move || history_file::write(&path, &histories));
    let error = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(err)) => err.to_string(),
        Err(err) => err.to_string(),
    };
    tracing::error!(path = shown, error, "cannot write the history");
}
