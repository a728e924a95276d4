//! Who connects, and what it says and asks for when it does.

use derp_proto::{ClientFrame, ClientInfo, MeshKey, NodePrivate};

/// Who a client is, and the frames that it sends right behind its login.
#[derive(Debug, Clone)]
pub struct Login {
    /// The client's key; its public half is the client's address on the relay.
    pub key: NodePrivate,
    /// What the client says of itself.
    pub info: ClientInfo,
    /// Whether the relay is the client's home, which counts in the relay's statistics.
    pub preferred: bool,
    /// Whether the client wants to know of other clients that come and go. Without the mesh key
    /// the relay closes the connection of a client that asks.
    pub watch_conns: bool,
}

impl Login {
    /// A plain client with this key.
    #[must_use]
    pub fn new(key: NodePrivate) -> Self {
        Self {
            key,
            info: ClientInfo::plain(),
            preferred: false,
            watch_conns: false,
        }
    }

    /// A client that shows the mesh key, to be treated as another relay of the region.
    #[must_use]
    pub fn mesh(key: NodePrivate, mesh_key: MeshKey) -> Self {
        let info = ClientInfo {
            mesh_key: Some(mesh_key),
            ..ClientInfo::plain()
        };
        Self {
            info,
            ..Self::new(key)
        }
    }

    /// A client that says that it is a prober.
    #[must_use]
    pub fn prober(key: NodePrivate) -> Self {
        let info = ClientInfo {
            is_prober: true,
            ..ClientInfo::plain()
        };
        Self {
            info,
            ..Self::new(key)
        }
    }

    /// Appends the frames that follow ClientInfo to `out`, in Go's order.
    pub(crate) fn encode_requests(&self, out: &mut Vec<u8>) {
        if self.preferred {
            ClientFrame::NotePreferred(true).encode(out);
        }
        if self.watch_conns {
            ClientFrame::WatchConns.encode(out);
        }
    }
}
