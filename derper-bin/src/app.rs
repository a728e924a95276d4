//! The relay as it runs: what [`Config`] says, wired together. Rules live elsewhere.

mod admin;
mod admit;
mod admitters;
mod clients_page;
mod ends;
mod go_verify;
pub(crate) mod hidden_clients;
mod inherited;
mod listen;
mod look_inside;
mod mesh;
mod numbers;
mod pages;
mod readiness;
mod recheck;
mod reload;
mod rtt_stats;
mod unix_socket;
mod vars;
mod verifiers;

use std::future::ready;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use derp_mesh::Mesh;
pub use derp_ops::listen_addr::BindError;
use derp_ops::logging::Log;
use derp_ops::operators;
use derp_server::{DrainPlan, ListenOptions, Listener, Pages, PagesConfig, Server};
use derp_stun::{StunHandle, StunServer};
use derp_verify::ListenerId;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::admin::Admin;
use self::admit::Admit;
pub(crate) use self::go_verify::TAILSCALED_SOCKET;
use self::listen::Sockets;
use self::numbers::Numbers;
use self::pages::{OperatorPages, Public};
use self::readiness::Readiness;
use self::reload::Reload;
use self::rtt_stats::RttStats;
use self::unix_socket::SocketFile;
pub use self::unix_socket::UnixBindError;
use self::verifiers::Verifiers;
use crate::bootstrap_dns::{BootstrapDns, SystemResolver};
use crate::config::{Config, Tls};
use crate::derpmap_hint::Hint;
use crate::host::Host;
use crate::random;
use crate::service_manager;
use crate::signals;
use crate::start::Start;
use crate::tls::Caretaker;
use crate::tls::challenges::Challenges;
use crate::tls::numbers::CertNumbers;

/// A relay with all its ports bound, which serves nobody yet.
#[derive(Debug)]
pub struct App {
    server: Server,
    main: (Listener, ListenOptions),
    extra: Vec<(Listener, ListenOptions)>,
    /// The names of Unix sockets, which go with the relay.
    socket_files: Vec<SocketFile>,
    http: Option<(Listener, ListenOptions)>,
    /// For operators alone.
    metrics: Option<TcpListener>,
    /// For looking inside.
    admin: Option<UnixListener>,
    /// What the admin socket has read again.
    start: Option<Start>,
    stun: Option<StunServer>,
    mesh: Option<Mesh>,
    tls: Option<Arc<Caretaker>>,
    admit: Arc<Admit>,
    rtt_stats: Arc<RttStats>,
    bootstrap_dns: Arc<BootstrapDns>,
    numbers: Arc<Numbers>,
    pages: Arc<OperatorPages>,
    readiness: Arc<Readiness>,
    drain: DrainPlan,
    /// Whether it is to be noticed that a proxy hides where clients are.
    may_be_hidden: bool,
    host: Host,
    /// The port that clients come to.
    port: u16,
    /// What the log shows, and how to change that.
    filter: String,
    log: Option<Log>,
    hint: Option<Hint>,
}

impl App {
    /// Binds every port, then makes or reads the key and the certificate, so that a port that is
    /// taken leaves nothing behind. `now` is the wall clock.
    ///
    /// # Errors
    /// A port is taken, a file cannot be written, or the system has no thread left.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn bind(mut config: Config, now: SystemTime) -> anyhow::Result<Self> {
        let sockets = Sockets::bind(&config)?;
        let counted = if config.rtt_stats {
            sockets.tcp_addresses()
        } else {
            Vec::new()
        };
        let rtt_stats = Arc::new(RttStats::new(counted));
        let (main, http, stun) = (sockets.main, sockets.http, sockets.stun);
        let bound = main.local_addr().map_or(443, |address| address.port());
        let port = config.public_port.unwrap_or(bound);

        let key = config.key.private_key(random::private_key)?;
        let tls = std::mem::replace(&mut config.tls, Tls::Off);
        let challenges = Arc::new(Challenges::default());
        let cert_numbers = Arc::new(CertNumbers::default());
        let tls = Caretaker::new(
            tls,
            &config.host,
            key.public(),
            &challenges,
            Arc::clone(&cert_numbers),
            now,
        )?
        .map(Arc::new);
        let verifiers = Verifiers::new(&config.admission, None).context("cannot verify clients")?;
        let admit = Arc::new(Admit::new(verifiers));
        let bootstrap_dns = Arc::new(BootstrapDns::new(config.pages.bootstrap_dns.clone()));
        let numbers = Arc::new(Numbers::new(
            now,
            stun.as_ref().map(StunServer::handle),
            Arc::clone(&bootstrap_dns),
            Arc::clone(&admit),
            Arc::clone(&rtt_stats),
            cert_numbers,
        ));
        numbers.note_config(&config);
        if sockets.has_stun_failed {
            numbers.note_stun_failed();
        }
        let readiness = Arc::new(Readiness::default());
        let pages = Arc::new(OperatorPages::new(
            &config,
            Arc::clone(&numbers),
            Arc::clone(&readiness),
            Arc::clone(&bootstrap_dns),
            challenges,
        ));
        let mut builder = Server::builder(key.clone())
            .shared_verifier(admit.clone())
            .tunables(config.tunables.clone())
            .pages(Pages::new(
                pages_config(&config, port),
                Public(Arc::clone(&pages)),
            ));
        for key in [&config.mesh.key, &config.mesh.other_key]
            .into_iter()
            .flatten()
        {
            builder = builder.mesh_key(key.clone());
        }
        let server = builder
            .start()
            .context("cannot start the relay's threads")?;
        numbers.attach(server.clone());
        let mesh = mesh::links(&config.mesh, &server, key);
        if let Some(mesh) = &mesh {
            numbers.attach_mesh(mesh.clone());
        }

        let may_be_hidden = !config.dev && !config.is_told_where_clients_are();
        let mut options = match &tls {
            Some(tls) => ListenOptions::tls("main", tls.config()),
            None => ListenOptions::plain("main"),
        };
        options.socket = config.socket;
        options.accept_limit = config.accept_limit;
        options.proxy_protocol = Arc::new(config.proxy_protocol);
        options.trusted_proxies = Arc::new(config.trusted_proxies);
        let extra = sockets.extra.into_iter().map(|(listener, is_plain)| {
            let mut options = options.clone();
            options.id = ListenerId::new("extra");
            options.tls = options.tls.filter(|_| !is_plain);
            (listener, options)
        });
        let extra = extra.collect();
        let mut port_80 = ListenOptions::plain("http");
        port_80.socket = config.socket;
        port_80.only_redirects = true;

        let http = http.map(|listener| (Listener::from(listener), port_80));
        let hint = tls.as_ref().map(|tls| Hint {
            host: config.host.clone(),
            derp_port: port,
            stun_port: stun.as_ref().map(|stun| stun.local_addr().port()),
            pin: tls.pin().map(str::to_owned),
            can_port80: http
                .as_ref()
                .is_some_and(|(listener, _)| listen::port(listener) == 80),
        });
        Ok(Self {
            server,
            main: (main, options),
            extra,
            socket_files: sockets.files,
            http,
            metrics: sockets.metrics,
            admin: sockets.admin,
            start: None,
            stun,
            mesh,
            tls,
            admit,
            rtt_stats,
            bootstrap_dns,
            numbers,
            pages,
            readiness,
            drain: config.drain,
            may_be_hidden,
            host: config.host,
            port,
            filter: config.logging.filter,
            log: None,
            hint,
        })
    }

    /// Has reloads change what this log shows.
    #[must_use]
    pub fn with_log(mut self, log: Log) -> Self {
        self.log = Some(log);
        self
    }

    /// Lets the admin socket have the configuration read again that these words and variables
    /// lead to.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Tells the log where the relay listens and how clients know it.
    pub fn announce(&self) {
        tracing::info!(
            host = %self.host,
            key = %self.server.public_key(),
            port = self.port(),
            sockets = ?self.socket_files,
            tls = self.tls.is_some(),
            stun_port = self.stun.as_ref().map(|stun| stun.local_addr().port()),
            http_port = self.http_port(),
            metrics_port = self.metrics_port(),
            admits = %self.admit.current(),
            "listening"
        );
    }

    /// What clients need to know of this relay; `None` for plain HTTP, which no client speaks.
    #[must_use]
    pub const fn hint(&self) -> Option<&Hint> {
        self.hint.as_ref()
    }

    /// The main listener's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        listen::port(&self.main.0)
    }

    /// The port of the listener for captive portal checks.
    #[must_use]
    pub fn http_port(&self) -> Option<u16> {
        self.http
            .as_ref()
            .map(|(listener, _)| listen::port(listener))
    }

    /// The port of the listener for operators.
    #[must_use]
    pub fn metrics_port(&self) -> Option<u16> {
        let address = self.metrics.as_ref()?.local_addr();
        address.ok().map(|address| address.port())
    }

    /// The relay's core, which serves while the app runs.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Serves until `shutdown` is ready, then empties the relay: STUN falls silent, so that
    /// clients choose others, and connections are closed one after another. `reloads` are
    /// configurations to change over to; what cannot change while the relay runs stays.
    ///
    /// # Errors
    /// A part of the relay ended by itself.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        mut reloads: mpsc::Receiver<signals::Reload>,
    ) -> anyhow::Result<()> {
        let Self {
            server,
            main,
            extra,
            socket_files,
            http,
            metrics,
            admin,
            start,
            stun,
            mesh,
            tls,
            admit,
            rtt_stats,
            bootstrap_dns,
            numbers,
            pages,
            readiness,
            drain,
            may_be_hidden,
            port,
            filter,
            log,
            ..
        } = self;
        let mut reload = Reload {
            server: &server,
            tls: tls.as_deref(),
            admit: &admit,
            numbers: &numbers,
            pages: &pages,
            bootstrap_dns: &bootstrap_dns,
            log: log.as_ref(),
            filter,
            port,
        };
        let mut tasks = JoinSet::new();
        // Before anybody can ask for its numbers.
        if let Some(links) = mesh.map(|mesh| mesh.run()) {
            tasks.spawn(async move { match links.await {} });
        }
        let stun_handle = stun.as_ref().map(StunServer::handle);
        for (listener, options) in [Some(main), http].into_iter().flatten().chain(extra) {
            let server = server.clone();
            tasks.spawn(async move { server.serve(listener, options).await });
        }
        if let Some(listener) = metrics {
            let pages = Arc::clone(&pages);
            let respond = move |request, from| ready(pages.for_operators(&request, from));
            tasks.spawn(async move { match operators::serve(listener, respond).await {} });
        }
        let (asker, mut asked) = mpsc::channel(1);
        if let Some(listener) = admin {
            let admin = Arc::new(Admin {
                numbers: Arc::clone(&numbers),
                start,
                reloads: asker.clone(),
            });
            tasks.spawn(async move { match admin::serve(listener, admin).await {} });
        }
        if let Some(stun) = stun {
            tasks.spawn(async move { match stun.serve().await {} });
        }
        if let Some(tls) = tls.clone() {
            tasks.spawn(async move { match tls.run().await {} });
        }
        tasks.spawn(async move { match rtt_stats.run().await {} });
        tasks.spawn(recheck::keep_admission(
            Arc::clone(&admit),
            server.clone(),
            Arc::clone(numbers.rechecks()),
        ));
        if may_be_hidden {
            let watched = server.clone();
            let clients = move || watched.clients().iter().map(|it| it.addr).collect();
            tasks.spawn(async move {
                let warn = || {
                    tracing::warn!(
                        "all clients seem to be on this machine: if a proxy passes them on, have \
                         it send a PROXY header and set --proxy-protocol, for meanwhile /debug/ is \
                         open to everybody"
                    );
                };
                match hidden_clients::watch(clients, warn).await {}
            });
        }
        let served = server.clone();
        tasks.spawn(async move {
            let status = || format!("serving {} clients", served.clients().len());
            match service_manager::keep_alive(status).await {}
        });
        let (publisher, names) = (server.clone(), Arc::clone(&bootstrap_dns));
        tasks.spawn(async move {
            let publish = |document: Vec<u8>| publisher.pages().set_bootstrap_dns(document.into());
            names
                .keep_fresh(SystemResolver, random::shuffle, publish)
                .await;
        });

        tokio::pin!(shutdown);
        service_manager::ready();
        let ended = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                // What is wrong with it, the log tells.
                Some(news) = reloads.recv() => drop(reload.on(news)),
                Some(asked) = asked.recv() => {
                    // Whoever asked may not have waited.
                    drop(asked.done.send(reload.on(asked.news)));
                }
                Some(ended) = tasks.join_next() => break match ended {
                    Ok(()) => Err(anyhow::anyhow!("a part of the relay has ended")),
                    Err(err) => Err(anyhow::Error::new(err).context("a part of the relay failed")),
                },
            }
        };
        drop((asker, asked));
        readiness.stop();
        service_manager::stopping(drain.hard_stop + Duration::from_secs(5));
        stop(&server, stun_handle.as_ref(), drain).await;
        tasks.shutdown().await;
        server.shutdown().await;
        drop(socket_files);
        numbers.detach();
        ended
    }
}

async fn stop(server: &Server, stun: Option<&StunHandle>, plan: DrainPlan) {
    if let Some(stun) = stun {
        stun.be_quiet();
    }
    tracing::info!(clients = server.clients().len(), "stopping");
    let report = server.drain(plan).await;
    tracing::info!(told = report.told, cut_off = report.cut_off, "stopped");
}

fn pages_config(config: &Config, port: u16) -> PagesConfig {
    let mut pages = PagesConfig::default();
    pages.serves_derp = config.listen.derp;
    pages.home = config.pages.home.clone();
    pages.unknown_paths = config.pages.unknown_paths;
    if config.host_is_given {
        let host = match &config.host {
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            host => host.to_string(),
        };
        pages.hostname = if port == 443 {
            host
        } else {
            format!("{host}:{port}")
        };
    }
    pages
}
