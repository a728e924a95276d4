//! Clients of the server, logged in or on the way, and what cases expect them to receive.

use std::collections::HashMap;
use std::time::Duration;

use derp_proto::{NodePrivate, NodePublic};
use tokio::time::Instant;

use crate::conn::{Conn, Event};
use crate::context::{Cx, GRACE};
use crate::frame::{
    KEEP_ALIVE, PEER_GONE, PEER_PRESENT, PING, PONG, RECV_PACKET, SERVER_INFO, SERVER_KEY,
    WATCH_CONNS, client_info, frame, new_key, open, packet,
};
use crate::http::{self, status};
use crate::verdict::{Checked, Failure, ensure, same, same_bytes, shown};
use crate::wire::Hello;

/// What Go's client says of itself.
pub(crate) const PLAIN_INFO: &str = r#"{"version":2,"CanAckPings":true}"#;

/// How a client connects and logs in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) private: NodePrivate,
    /// The JSON in its box.
    pub(crate) info: String,
    /// Further headers of the request.
    pub(crate) headers: &'static str,
    pub(crate) is_websocket: bool,
    pub(crate) hello: Hello,
}

impl Login {
    pub(crate) fn new() -> Self {
        Self {
            private: new_key(),
            info: PLAIN_INFO.to_owned(),
            headers: "",
            is_websocket: false,
            hello: Hello::default(),
        }
    }
}

/// A client that was admitted.
pub(crate) struct Peer {
    pub(crate) conn: Conn,
    pub(crate) key: NodePublic,
    patience: Duration,
}

impl Cx {
    /// A connection on which the server has greeted, and its key.
    pub(crate) async fn greeted(&self, login: &Login) -> Checked<(Conn, NodePublic)> {
        let mut conn = self.open_by(&login.hello).await?;
        let request = match login.is_websocket {
            true => http::websocket(self.target(), login.headers),
            false => http::upgrade(self.target(), login.headers),
        };
        conn.send(request).await;
        let head = conn.head().await?;
        same("the status", status(&head), 101)?;
        if login.is_websocket {
            conn.speak_websocket();
        }
        let server = conn.greeting(self).await?;
        Ok((conn, server))
    }

    /// A client with a new key.
    pub(crate) async fn peer(&self) -> Checked<Peer> {
        self.log_in(&Login::new()).await
    }

    /// A client with this key.
    pub(crate) async fn peer_with(&self, private: &NodePrivate) -> Checked<Peer> {
        self.log_in(&Login {
            private: private.clone(),
            ..Login::new()
        })
        .await
    }

    /// A client with a new key in a WebSocket.
    pub(crate) async fn browser(&self) -> Checked<Peer> {
        self.log_in(&Login {
            is_websocket: true,
            ..Login::new()
        })
        .await
    }

    /// A client with a new key that shows the mesh key.
    pub(crate) async fn mesh_peer(&self) -> Checked<Peer> {
        self.log_in(&Login {
            info: self.mesh_info(),
            ..Login::new()
        })
        .await
    }

    /// A mesh client that has asked to be told of everybody, and has heard of itself.
    pub(crate) async fn watcher(&self) -> Checked<Peer> {
        let mut watcher = self.mesh_peer().await?;
        watcher.conn.send(frame(WATCH_CONNS, &[])).await;
        let key = watcher.key;
        watcher.present(&[key]).await?;
        Ok(watcher)
    }

    /// What another relay of the region says of itself.
    pub(crate) fn mesh_info(&self) -> String {
        let key = self.target().mesh_key.as_ref();
        let key = key.map(|key| key.to_secret_text().to_string());
        format!(
            r#"{{"meshKey":"{}","version":2,"CanAckPings":false}}"#,
            key.unwrap_or_default()
        )
    }

    /// A client that logs in so.
    pub(crate) async fn log_in(&self, login: &Login) -> Checked<Peer> {
        let (mut conn, server) = self.greeted(login).await?;
        let key = login.private.public();
        let hello = client_info(&key, &login.private, &server, login.info.as_bytes());
        conn.send(hello).await;
        conn.admitted(self, &login.private, &server).await?;
        Ok(Peer {
            conn,
            key,
            patience: self.patience(),
        })
    }
}

impl Conn {
    /// The next frame of any type but keep-alives.
    pub(crate) async fn next(&mut self, patience: Duration) -> Checked<(u8, Vec<u8>)> {
        loop {
            match self.event(patience).await {
                Some(Event::Frame(KEEP_ALIVE, _)) => {}
                Some(Event::Frame(ty, body)) => return Ok((ty, body)),
                Some(end) => return Err(Failure::new("a frame", end.told())),
                None => return Err(Failure::new("a frame", "nothing")),
            }
        }
    }

    /// The body of the next frame, which has this type.
    pub(crate) async fn expect(&mut self, cx: &Cx, ty: u8) -> Checked<Vec<u8>> {
        let (seen, body) = self.next(cx.patience()).await.map_err(|failure| Failure {
            expected: format!("frame {ty:#04x}"),
            ..failure
        })?;
        ensure(
            seen == ty,
            format!("frame {ty:#04x}"),
            Event::Frame(seen, body.clone()).told(),
        )?;
        Ok(body)
    }

    /// The server's greeting, and the key in it.
    pub(crate) async fn greeting(&mut self, cx: &Cx) -> Checked<NodePublic> {
        let body = self.expect(cx, SERVER_KEY).await?;
        let key = body.strip_prefix(&derp_proto::MAGIC);
        let key = key.and_then(NodePublic::split_from).map(|(key, _)| key);
        key.ok_or_else(|| Failure::new("the magic and a key", shown(&body)))
    }

    /// The server's answer to a login, which is that the client is admitted; its JSON.
    pub(crate) async fn admitted(
        &mut self,
        cx: &Cx,
        private: &NodePrivate,
        server: &NodePublic,
    ) -> Checked<String> {
        let body = self.expect(cx, SERVER_INFO).await?;
        let json = open(private, server, &body)
            .ok_or_else(|| Failure::new("a box of the server's for the client", shown(&body)))?;
        Ok(String::from_utf8_lossy(&json).into_owned())
    }

    /// The connection's end, without a frame in front of it.
    pub(crate) async fn ends(&mut self, cx: &Cx) -> Checked {
        self.ends_within(cx.patience()).await.map(|_| ())
    }

    /// The same within this time; how it ended.
    pub(crate) async fn ends_within(&mut self, within: Duration) -> Checked<String> {
        let expected = "the connection's end";
        loop {
            return match self.event(within).await {
                Some(Event::Frame(KEEP_ALIVE, _)) => continue,
                Some(Event::End(how)) if how.contains("in the middle") => {
                    Err(Failure::new(expected, how))
                }
                Some(Event::End(how)) => Ok(how),
                Some(frame) => Err(Failure::new(expected, frame.told())),
                None => Err(Failure::new(expected, "it is open, and nothing comes")),
            };
        }
    }

    /// Nothing, for a while.
    pub(crate) async fn stays_silent(&mut self) -> Checked {
        match self.event(GRACE).await {
            None | Some(Event::Frame(KEEP_ALIVE, _)) => Ok(()),
            Some(event) => Err(Failure::new("nothing", event.told())),
        }
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.conn.send(bytes).await;
    }

    pub(crate) async fn send_packet(&mut self, to: &NodePublic, data: &[u8]) {
        self.conn.send(packet(to, data)).await;
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Checked<(u8, Vec<u8>)> {
        self.conn.next(self.patience).await
    }

    /// This frame comes next.
    pub(crate) async fn expect_frame(&mut self, ty: u8, body: &[u8]) -> Checked {
        let (seen, seen_body) = self.next().await.map_err(|failure| Failure {
            expected: format!("frame {ty:#04x} with {}", shown(body)),
            ..failure
        })?;
        ensure(
            (seen, &seen_body[..]) == (ty, body),
            Event::Frame(ty, body.to_vec()).told(),
            Event::Frame(seen, seen_body).told(),
        )
    }

    /// This packet comes next.
    pub(crate) async fn expect_packet(&mut self, from: &NodePublic, data: &[u8]) -> Checked {
        let body = [from.as_bytes(), data].concat();
        self.expect_frame(RECV_PACKET, &body).await
    }

    /// The news that `key` has gone comes next.
    pub(crate) async fn expect_gone(&mut self, key: &NodePublic, reason: u8) -> Checked {
        let body = [&key.as_bytes()[..], &[reason]].concat();
        self.expect_frame(PEER_GONE, &body).await
    }

    /// A ping is answered next.
    pub(crate) async fn ping(&mut self) -> Checked {
        let data: [u8; 8] = crate::frame::random();
        self.send(frame(PING, &[&data])).await;
        self.expect_frame(PONG, &data).await
    }

    /// All that comes in front of the second of two pongs. The first may overtake what waits.
    pub(crate) async fn received(&mut self) -> Checked<Vec<(u8, Vec<u8>)>> {
        let mut frames = Vec::new();
        for _ in 0..2 {
            let data: [u8; 8] = crate::frame::random();
            self.send(frame(PING, &[&data])).await;
            loop {
                match self.next().await? {
                    (PONG, body) => {
                        same_bytes("a pong with", &body, &data)?;
                        break;
                    }
                    other => frames.push(other),
                }
            }
        }
        Ok(frames)
    }

    /// Nothing has come, and the connection works.
    pub(crate) async fn is_undisturbed(&mut self) -> Checked {
        match self.received().await?.first() {
            None => Ok(()),
            Some((ty, body)) => {
                let seen = Event::Frame(*ty, body.clone()).told();
                Err(Failure::new("no frame but pongs", seen))
            }
        }
    }

    /// The server ends the connection without another frame.
    pub(crate) async fn is_cut_off(&mut self) -> Checked {
        self.conn.ends_within(self.patience).await.map(|_| ())
    }

    /// Packets travel from this client to `other`.
    pub(crate) async fn reaches(&mut self, other: &mut Self, data: &[u8]) -> Checked {
        self.send_packet(&other.key, data).await;
        other.expect_packet(&self.key, data).await
    }

    /// What a watcher is told of `key` next: the frame's type and body. Others' comings and goings
    /// are passed over.
    pub(crate) async fn news_of(&mut self, key: &NodePublic) -> Checked<(u8, Vec<u8>)> {
        let until = Instant::now() + self.patience;
        while Instant::now() < until {
            let (ty, body) = self.next().await?;
            if matches!(ty, PEER_GONE | PEER_PRESENT) && body.starts_with(key.as_bytes()) {
                return Ok((ty, body));
            }
        }
        Err(Failure::new("news of a key", "only news of others"))
    }

    /// A watcher is told that all of `keys` are there, in any order; their frames.
    pub(crate) async fn present(
        &mut self,
        keys: &[NodePublic],
    ) -> Checked<HashMap<NodePublic, Vec<u8>>> {
        let mut seen = HashMap::new();
        let until = Instant::now() + self.patience;
        while seen.len() < keys.len() {
            let missing = format!("PeerPresent for {} keys", keys.len());
            let (ty, body) = self.next().await.map_err(|failure| Failure {
                expected: missing.clone(),
                ..failure
            })?;
            let about = keys.iter().find(|key| body.starts_with(key.as_bytes()));
            if let Some(key) = about {
                ensure(
                    ty == PEER_PRESENT,
                    missing,
                    Event::Frame(ty, body.clone()).told(),
                )?;
                let before = seen.insert(*key, body);
                ensure(before.is_none(), "PeerPresent once", "it twice for a key")?;
            } else if Instant::now() > until {
                return Err(Failure::new(missing, format!("{} of them", seen.len())));
            }
        }
        Ok(seen)
    }

    /// A watcher is told that `key` has gone.
    pub(crate) async fn hears_of_departure(&mut self, key: &NodePublic) -> Checked {
        let (ty, body) = self.news_of(key).await?;
        same("frame", ty, PEER_GONE)?;
        same_bytes("PeerGone with", &body[32..], &[0])
    }

    /// A watcher is told nothing of `key`, up to a pong.
    pub(crate) async fn hears_nothing_of(&mut self, key: &NodePublic) -> Checked {
        for (ty, body) in self.received().await? {
            ensure(
                !body.starts_with(key.as_bytes()),
                "no news of the key",
                Event::Frame(ty, body).told(),
            )?;
        }
        Ok(())
    }
}
