//! What other relays of the region do in a story: as clients with the mesh key, and as links.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use derp_proto::ClientFrame;

use super::chaos::{Chaos, KEYS, key_number, key_of};
use super::choices::Choices;
use super::link::Link;
use super::mark::Mark;
use crate::forwarder::Forwarder;

impl Chaos {
    /// What only mesh peers may do; others who try are closed.
    pub(super) fn mesh_peer_acts(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (kind, choice) = (choices.below(4)?, choices.byte()?);
        let (src, dst) = (key_number(choices)?, key_number(choices)?);
        let mesh_peers = self.players.iter().filter(|p| p.is_alive && !p.has_left);
        let sessions: Vec<_> = mesh_peers
            .filter(|player| player.is_mesh_peer || choice == 0xff)
            .map(|player| player.session as usize)
            .collect();
        let Some(&who) = sessions.get(usize::from(choice) % sessions.len().max(1)) else {
            return Some(());
        };
        let player = &mut self.players[who];
        player.may_be_closed |= !player.is_mesh_peer;
        let (mut frame, key) = (Vec::new(), key_of(dst));
        match kind {
            0 => {
                // Others are told of nobody, and closed as soon as their limits let the relay see it.
                player.watches |= player.is_mesh_peer;
                ClientFrame::WatchConns.encode(&mut frame);
            }
            1 => {
                ClientFrame::ClosePeer(key).encode(&mut frame);
                self.expect_closing(dst);
            }
            _ => {
                let mark = Mark {
                    session: player.session,
                    number: player.sent,
                    src,
                    dst,
                    is_disco: choice & 4 == 0,
                };
                player.sent += 1;
                if mark.is_disco {
                    player.sought.insert(dst);
                }
                ClientFrame::ForwardPacket {
                    src: key_of(src),
                    dst: key,
                    packet: &mark.packet(100),
                }
                .encode(&mut frame);
            }
        }
        self.say(|| format!("{who} acts as a mesh peer: {kind}, {src} to {dst}"));
        self.send(who, &frame, 1);
        Some(())
    }

    /// Another relay says what clients it has, or is lost with all of them.
    pub(super) fn mesh_changes(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (kind, link) = (choices.below(8)?, choices.below(self.mesh.len())?);
        let key = key_number(choices)?;
        self.say(|| format!("link {link}: {kind} for key {key}"));
        match kind {
            0..=3 => {
                let forwarder: Arc<dyn Forwarder> = Arc::<Link>::clone(&self.mesh[link]);
                self.sim.hub.registry.add_forwarder(key_of(key), forwarder);
                let links = self.routes.entry(key).or_default();
                if !links.contains(&link) {
                    links.push(link);
                }
                self.note_presences();
            }
            4 | 5 => self.remove_route(key, link),
            6 => {
                self.mesh[link].refuses.fetch_xor(true, Relaxed);
            }
            _ => self.lose_link(link),
        }
        Some(())
    }

    fn remove_route(&mut self, key: u8, link: usize) {
        let forwarder: Arc<dyn Forwarder> = Arc::<Link>::clone(&self.mesh[link]);
        let registry = &self.sim.hub.registry;
        let departure = registry.remove_forwarder(key_of(key), &forwarder);
        departure.tell(key_of(key));
        if let Some(links) = self.routes.get_mut(&key) {
            links.retain(|known| *known != link);
            if links.is_empty() {
                self.routes.remove(&key);
            }
        }
        self.note_presences();
    }

    /// The link takes all its routes with it, and another takes its place.
    pub(super) fn lose_link(&mut self, link: usize) {
        for key in 0..KEYS {
            self.remove_route(u8::try_from(key).expect("keys are few"), link);
        }
        self.mesh[link].is_dead.store(true, Relaxed);
        let accepted = self.mesh[link].take_accepted();
        self.forwarded += accepted.len() as u64;
        for mark in accepted {
            self.on_delivered(mark, None);
        }
        assert_eq!(
            Arc::strong_count(&self.mesh[link]),
            1,
            "a dead link is referred to"
        );
        self.mesh[link] = Arc::default();
    }
}
