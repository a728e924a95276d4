//! One link: what the other relay says becomes routes here, and what is routed there is written.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use derp_client::{Cause, ClientWriter, Connect, Login, Policy, SelfConnect, Watch, WatchEvent};
use derp_proto::NodePublic;
use derp_server::{Forwarder, Server};

use crate::queue::Queue;
use crate::state::LinkState;

/// Five seconds or so, as the reference waits (`derp/derphttp/mesh_client.go`), but not all
/// relays at the same moment when one comes back that they all wait for.
pub(crate) const POLICY: Policy = Policy {
    floor: Duration::from_secs(4),
    first: Duration::from_secs(6),
    max: Duration::from_secs(6),
    healthy_after: Duration::from_secs(30),
};

/// A link to another relay.
pub(crate) struct Link {
    server: Server,
    watch: Watch,
    queue: Arc<Queue>,
    /// The queue, as the server knows it.
    forwarder: Arc<dyn Forwarder>,
    state: Arc<LinkState>,
    /// Writes what is queued while there is a connection; never ends.
    writing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The key of a relay that has admitted this one, perhaps as a client like any other.
    admitted_by: Option<NodePublic>,
}

impl Link {
    pub(crate) fn new(
        server: Server,
        connect: impl Connect + 'static,
        login: Login,
        policy: Policy,
        state: Arc<LinkState>,
    ) -> Self {
        let own = Some(server.public_key());
        let queue = Arc::new(Queue::new(Arc::clone(&state)));
        Self {
            server,
            watch: Watch::with_parts(connect, login, own, policy, random),
            forwarder: Arc::clone(&queue) as Arc<dyn Forwarder>,
            queue,
            state,
            writing: None,
            admitted_by: None,
        }
    }

    pub(crate) const fn state(&self) -> &Arc<LinkState> {
        &self.state
    }

    /// Keeps the link, until it turns out to lead to this relay. Dropping the future takes the
    /// routes back.
    pub(crate) async fn run(mut self) {
        loop {
            let event = match &mut self.writing {
                None => self.watch.next().await,
                Some(writing) => tokio::select! {
                    event = self.watch.next() => event,
                    () = writing => {
                        self.writing = None;
                        continue;
                    }
                },
            };
            match event {
                Ok(event) => self.on_event(event),
                Err(SelfConnect) => {
                    tracing::info!(peer = self.state.name(), "a mesh link leads to this relay");
                    return self.state.to_itself();
                }
            }
        }
    }

    fn on_event(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Up(writer) => {
                self.admitted_by = Some(writer.info().server_key);
                self.queue.open();
                self.writing = Some(Box::pin(write_all(Arc::clone(&self.queue), writer)));
            }
            WatchEvent::Present(present) => {
                self.follow();
                if !self.is_own(&present.key) {
                    self.server
                        .add_forwarder(present.key, Arc::clone(&self.forwarder));
                }
            }
            WatchEvent::Gone { key, .. } if self.is_own(&key) => {}
            WatchEvent::Gone { key, .. } => self.server.remove_forwarder(key, &self.forwarder),
            WatchEvent::Down {
                cause,
                peers,
                retry_in,
            } => {
                self.admitted_by = None;
                self.writing = None;
                self.queue.close();
                self.unroute(peers);
                self.tell_why(&cause, retry_in);
            }
        }
        let clients = self.watch.peers();
        let own = usize::from(clients.contains(&self.server.public_key()));
        self.state
            .follows(clients.len() - own, self.watch.ignored());
    }

    /// The other relay tells of its clients, which it does for relays of its region alone. This one
    /// is a client of it, so that there is always one to tell of.
    fn follow(&mut self) {
        if let Some(key) = self.admitted_by.take() {
            tracing::info!(peer = self.state.name(), %key, "mesh link is up");
            self.state.up(key);
        }
    }

    /// This relay is a client of the other one, and nobody sends packets to it.
    fn is_own(&self, key: &NodePublic) -> bool {
        *key == self.server.public_key()
    }

    fn unroute(&self, peers: impl IntoIterator<Item = NodePublic>) {
        for key in peers {
            if !self.is_own(&key) {
                self.server.remove_forwarder(key, &self.forwarder);
            }
        }
    }

    fn tell_why(&self, cause: &Cause, retry_in: Duration) {
        let mut problem = cause.to_string();
        let mut source = std::error::Error::source(cause);
        while let Some(deeper) = source {
            problem = format!("{problem}: {deeper}");
            source = deeper.source();
        }
        let peer = self.state.name();
        // A relay that is away for a day is no news every five seconds.
        if self.state.down(problem.clone()) {
            tracing::warn!(peer, problem, ?retry_in, "mesh link is down");
        } else {
            tracing::debug!(peer, problem, ?retry_in, "mesh link is still down");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.queue.close();
        self.unroute(self.watch.peers().iter().copied());
        self.state.ended();
    }
}

/// Writes what is queued. Ends with the connection, of whose end the watch tells.
async fn write_all(queue: Arc<Queue>, writer: ClientWriter) {
    loop {
        let batch = queue.next().await;
        if let Err(error) = writer.forward_all(&batch).await {
            tracing::debug!(%error, "packets for another relay were not written");
            return;
        }
    }
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system has random bytes")
}
