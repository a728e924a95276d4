//! The relay as it runs: what [`Config`] says, wired together. Rules live elsewhere.

mod admit;
mod ends;
mod go_verify;
mod listen;
mod mesh;
mod numbers;
mod pages;
mod recheck;
mod unix_socket;
mod verifiers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use derp_mesh::Mesh;
use derp_server::{DrainPlan, ListenOptions, Listener, Pages, PagesConfig, Server};
use derp_stun::{StunHandle, StunServer};
use derp_verify::ListenerId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::admit::Admit;
pub use self::listen::BindError;
use self::numbers::Numbers;
use self::pages::OperatorPages;
use self::unix_socket::SocketFile;
pub use self::unix_socket::UnixBindError;
use self::verifiers::Verifiers;
use crate::bootstrap_dns::{BootstrapDns, SystemResolver};
use crate::config::{Config, Tls};
use crate::derpmap_hint::Hint;
use crate::host::Host;
use crate::problem::chain;
use crate::random;
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
    stun: Option<StunServer>,
    mesh: Option<Mesh>,
    tls: Option<Arc<Caretaker>>,
    admit: Arc<Admit>,
    bootstrap_dns: Arc<BootstrapDns>,
    numbers: Arc<Numbers>,
    drain: DrainPlan,
    host: Host,
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
        let mut socket_files = Vec::new();
        let mode = config.listen.unix_mode;
        let main = listen::place(&config.listen.main(), "-a", mode, &mut socket_files)?;
        let mut extra = Vec::new();
        for other in &config.listen.extra {
            let listener = listen::place(&other.place, "listen.extra", mode, &mut socket_files)?;
            extra.push((listener, other.is_plain));
        }
        // Behind a Unix socket there is a proxy, and clients come to its port.
        let port = match main.local_addr() {
            Some(address) => address.port(),
            None => config.listen.address.port,
        };
        let http = match config.listen.http {
            Some(address) => Some(listen::tcp(address, "-http-port")?),
            None => None,
        };
        let stun = config.stun.map(listen::stun).transpose()?;
        let stun_failed = stun.as_ref().is_some_and(Option::is_none);
        let stun = stun.flatten();

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
            cert_numbers,
        ));
        numbers.note_config(&config);
        if stun_failed {
            numbers.note_stun_failed();
        }
        let pages = OperatorPages::new(
            &config,
            Arc::clone(&numbers),
            Arc::clone(&bootstrap_dns),
            challenges,
        );
        let mut builder = Server::builder(key.clone())
            .shared_verifier(admit.clone())
            .tunables(config.tunables.clone())
            .pages(Pages::new(pages_config(&config, port), pages));
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

        let mut options = match &tls {
            Some(tls) => ListenOptions::tls("main", tls.config()),
            None => ListenOptions::plain("main"),
        };
        options.socket = config.socket;
        options.accept_limit = config.accept_limit;
        options.proxy_protocol = Arc::new(config.proxy_protocol);
        options.trusted_proxies = Arc::new(config.trusted_proxies);
        let extra = extra.into_iter().map(|(listener, is_plain)| {
            let mut options = options.clone();
            options.id = ListenerId::new("extra");
            options.tls = options.tls.filter(|_| !is_plain);
            (listener, options)
        });
        let extra = extra.collect();
        let mut port_80 = ListenOptions::plain("http");
        port_80.socket = config.socket;
        port_80.only_redirects = true;

        let http = http.map(|listener| (listener, port_80));
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
            socket_files,
            http,
            stun,
            mesh,
            tls,
            admit,
            bootstrap_dns,
            numbers,
            drain: config.drain,
            host: config.host,
            hint,
        })
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
        mut reloads: mpsc::Receiver<(Config, SystemTime)>,
    ) -> anyhow::Result<()> {
        let Self {
            server,
            main,
            extra,
            socket_files,
            http,
            stun,
            mesh,
            tls,
            admit,
            bootstrap_dns,
            numbers,
            drain,
            ..
        } = self;
        let reload = Reload {
            server: &server,
            tls: tls.as_deref(),
            admit: &admit,
            numbers: &numbers,
        };
        let mut tasks = JoinSet::new();
        let stun_handle = stun.as_ref().map(StunServer::handle);
        for (listener, options) in [Some(main), http].into_iter().flatten().chain(extra) {
            let server = server.clone();
            tasks.spawn(async move { server.serve(listener, options).await });
        }
        if let Some(stun) = stun {
            tasks.spawn(async move { match stun.serve().await {} });
        }
        if let Some(mesh) = mesh {
            tasks.spawn(async move { match mesh.run().await {} });
        }
        if let Some(tls) = tls.clone() {
            tasks.spawn(async move { match tls.run().await {} });
        }
        tasks.spawn(recheck::keep_admission(
            Arc::clone(&admit),
            server.clone(),
            Arc::clone(numbers.rechecks()),
        ));
        let publisher = server.clone();
        tasks.spawn(async move {
            let publish = |document: Vec<u8>| publisher.pages().set_bootstrap_dns(document.into());
            bootstrap_dns
                .keep_fresh(SystemResolver, random::shuffle, publish)
                .await;
        });

        tokio::pin!(shutdown);
        let ended = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                Some((config, now)) = reloads.recv() => reload.apply(config, now),
                Some(ended) = tasks.join_next() => break match ended {
                    Ok(()) => Err(anyhow::anyhow!("a part of the relay has ended")),
                    Err(err) => Err(anyhow::Error::new(err).context("a part of the relay failed")),
                },
            }
        };
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

/// What a new configuration can change.
struct Reload<'a> {
    server: &'a Server,
    tls: Option<&'a Caretaker>,
    admit: &'a Admit,
    numbers: &'a Numbers,
}

impl Reload<'_> {
    fn apply(&self, mut config: Config, now: SystemTime) {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let old = self.server.tunables();
        if *old != config.tunables {
            tracing::info!(?old, new = ?config.tunables, "limits and times changed");
            self.server.set_tunables(config.tunables.clone());
        }
        self.numbers.note_config(&config);
        match Verifiers::new(&config.admission, Some(&self.admit.current())) {
            Ok(verifiers) => self.admit.replace(verifiers),
            Err(err) => tracing::error!(error = chain(&err), "the old verifiers stay"),
        }
        if let Some(tls) = self.tls {
            tls.reload(&mut config.tls, now);
        }
        tracing::info!("configuration reloaded; ports, names and keys change with a restart");
    }
}
