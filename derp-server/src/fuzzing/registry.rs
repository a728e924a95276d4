//! The registry against a model that knows no locks, no shards and no short cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use bytes::BytesMut;
use derp_proto::{FrameDecoder, NodePublic, ServerFrame, ServerSide};

use crate::budget::HeldBytes;
use crate::forwarder::{Forwarder, Refused};
use crate::metrics::Gauges;
use crate::peer::{ConnId, Peer};
use crate::registry::{MAX_PER_KEY, Registry, Route, flags};
use crate::sent_to::SentTo;
use crate::sim::Choices;
use crate::tally::Tally;

/// What happens to a registry, each event a byte for its kind and what the kind needs.
pub fn registry(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut scene = Scene::new();
    while scene.step(&mut choices).is_some() {
        scene.check();
    }
    scene.finish();
}

const KEYS: usize = 5;
const LINKS: usize = 3;
/// How many speakers are remembered.
const MAX_HISTORY: usize = 8;

const fn key_of(number: usize) -> NodePublic {
    let mut key = [1; 32];
    key[0] = number.to_le_bytes()[0];
    NodePublic::from_bytes(key)
}

fn number(id: ConnId) -> usize {
    usize::try_from(id.0).expect("stories are short")
}

/// A connection, and what the model has of it.
struct Conn {
    peer: Arc<Peer>,
    key: usize,
    /// Whom it sent something, as its owner keeps it, and as the model does.
    sent_to: SentTo,
    heard_it: BTreeSet<usize>,
    watches: bool,
    /// Keys that it was told are there, as a watcher, and how often others had gone.
    view: BTreeSet<usize>,
    told_gone: BTreeMap<usize, u32>,
    received: BytesMut,
}

/// All that the model has of a key.
#[derive(Debug, Default)]
struct Key {
    /// In the order in which they came.
    here: Vec<usize>,
    /// Of two or more, who spoke, without repeats in a row.
    spoke: Vec<usize>,
    links: Vec<usize>,
    /// Whom connections that left have sent something.
    left_behind: BTreeSet<usize>,
    /// Whom clients of other relays have, and connections that were the last here.
    sent_from_afar: BTreeSet<usize>,
}

#[derive(Debug)]
struct Link;

impl Forwarder for Link {
    fn forward(&self, _: NodePublic, _: NodePublic, _: &[u8]) -> Result<(), Refused> {
        Err(Refused)
    }
}

struct Scene {
    registry: Registry,
    gauges: Arc<Gauges>,
    /// All that ever were; `None` where they have left.
    conns: Vec<Option<Conn>>,
    keys: [Key; KEYS],
    links: [Arc<dyn Forwarder>; LINKS],
    duplicates: u64,
    multi_created: u64,
    multi_deleted: u64,
    not_there: u64,
}

impl Scene {
    fn new() -> Self {
        let gauges = Arc::<Gauges>::default();
        Self {
            registry: Registry::new(Arc::clone(&gauges)),
            gauges,
            conns: Vec::new(),
            keys: Default::default(),
            links: std::array::from_fn(|_| Arc::new(Link) as Arc<dyn Forwarder>),
            duplicates: 0,
            multi_created: 0,
            multi_deleted: 0,
            not_there: 0,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        match choices.below(16)? {
            0..=3 => self.register(choices.below(KEYS)?, choices.byte()?),
            4 | 5 => {
                if let Some(who) = self.somebody(choices)? {
                    self.unregister(who);
                }
            }
            6 | 7 => {
                if let Some(who) = self.somebody(choices)? {
                    self.speak(who);
                }
            }
            8..=10 => {
                if let (Some(from), Some(to)) = (self.somebody(choices)?, self.somebody(choices)?) {
                    self.send(from, to);
                }
            }
            11 => {
                if let Some(who) = self.somebody(choices)? {
                    self.watch(who);
                }
            }
            12 | 13 => self.add_link(choices.below(KEYS)?, choices.below(LINKS)?),
            14 => self.remove_link(choices.below(KEYS)?, choices.below(LINKS)?),
            _ => {
                let key = choices.below(KEYS)?;
                if let Some(to) = self.somebody(choices)? {
                    self.send_from_afar(key, to);
                }
            }
        }
        Some(())
    }

    fn somebody(&self, choices: &mut Choices<'_>) -> Option<Option<usize>> {
        let choice = usize::from(choices.byte()?);
        let here: Vec<_> = (0..self.conns.len())
            .filter(|who| self.conns[*who].is_some())
            .collect();
        Some(here.get(choice % here.len().max(1)).copied())
    }

    fn conn(&mut self, who: usize) -> &mut Conn {
        self.conns[who].as_mut().expect("it has not left")
    }

    fn register(&mut self, key: usize, kind: u8) {
        let who = self.conns.len();
        let flags = flags(kind & 1 != 0, false, true);
        let budget = Arc::new(HeldBytes::new(usize::MAX));
        let peer = Peer::of_task(key_of(key), ConnId(who as u64), flags, budget);
        let surplus = self.registry.register(&peer).map(|peer| peer.id);

        let of_key = &mut self.keys[key];
        of_key.here.push(who);
        match of_key.here.len() {
            1 => {}
            2 => of_key.spoke.clone_from(&of_key.here),
            _ => note(&mut of_key.spoke, who),
        }
        self.duplicates += u64::from(of_key.here.len() > 1);
        let active = of_key.spoke.last();
        let standby = of_key.here.iter().find(|other| Some(*other) != active);
        let expected = standby.filter(|_| of_key.here.len() > MAX_PER_KEY);
        assert_eq!(
            surplus,
            expected.map(|who| ConnId(*who as u64)),
            "who has to go"
        );
        for watcher in self.conns.iter_mut().flatten().filter(|conn| conn.watches) {
            watcher.view.insert(key);
        }
        self.conns.push(Some(Conn {
            peer,
            key,
            sent_to: SentTo::default(),
            heard_it: BTreeSet::new(),
            watches: false,
            view: BTreeSet::new(),
            told_gone: BTreeMap::new(),
            received: BytesMut::new(),
        }));
        // Whoever has to go goes soon, as its owner would have it.
        if let Some(surplus) = surplus {
            self.unregister(number(surplus));
        }
    }

    fn unregister(&mut self, who: usize) {
        self.read(who);
        let conn = self.conns[who].take().expect("it has not left");
        let departure = self.registry.unregister(&conn.peer, conn.sent_to);
        conn.peer.closed(&mut Vec::new(), &mut Tally::default());

        let key = &mut self.keys[conn.key];
        key.here.retain(|other| *other != who);
        key.spoke.retain(|other| *other != who);
        key.spoke.dedup();
        if key.spoke.is_empty() {
            key.spoke.extend(key.here.last());
        }
        let mut tell = BTreeSet::new();
        if !key.here.is_empty() {
            key.left_behind.extend(conn.heard_it);
        } else {
            tell = std::mem::take(&mut key.left_behind);
            tell.extend(conn.heard_it);
            if !key.links.is_empty() {
                key.sent_from_afar.append(&mut tell);
            }
            for watcher in self.conns.iter_mut().flatten().filter(|conn| conn.watches) {
                watcher.view.remove(&conn.key);
            }
        }
        let told = departure.tell.iter().map(|peer| peer.id).collect();
        departure.tell(key_of(conn.key));
        self.expect_told(told, tell, conn.key);
    }

    /// Those that are told are those that are to be told and have not left.
    fn expect_told(&mut self, told: Vec<ConnId>, tell: BTreeSet<usize>, key: usize) {
        let told: BTreeSet<_> = told.into_iter().map(number).collect();
        let tell: BTreeSet<_> = tell
            .into_iter()
            .filter(|who| self.conns[*who].is_some())
            .collect();
        assert_eq!(told, tell, "who is told that {key} has gone");
        for who in tell {
            let conn = self.conn(who);
            if conn.key != key {
                *conn.told_gone.entry(key).or_default() += 1;
            }
        }
    }

    fn speak(&mut self, who: usize) {
        let key = self.conn(who).key;
        let peer = Arc::clone(&self.conn(who).peer);
        self.registry.note_activity(&peer);
        if self.keys[key].here.len() > 1 {
            note(&mut self.keys[key].spoke, who);
        }
    }

    fn send(&mut self, from: usize, to: usize) {
        let peer = Arc::clone(&self.conn(to).peer);
        let from = self.conn(from);
        from.sent_to.insert(&peer);
        from.heard_it.insert(to);
    }

    fn watch(&mut self, who: usize) {
        let peer = Arc::clone(&self.conn(who).peer);
        if !peer.is_mesh_peer() {
            return;
        }
        self.registry.watch(&peer);
        let here = (0..KEYS).filter(|key| !self.keys[*key].here.is_empty());
        let here = here.collect();
        let conn = self.conn(who);
        conn.watches = true;
        conn.view = here;
    }

    fn add_link(&mut self, key: usize, link: usize) {
        let forwarder = Arc::clone(&self.links[link]);
        self.registry.add_forwarder(key_of(key), forwarder);
        let links = &mut self.keys[key].links;
        if !links.contains(&link) {
            links.push(link);
            self.multi_created += u64::from(links.len() == 2);
        }
    }

    fn remove_link(&mut self, key: usize, link: usize) {
        let departure = self
            .registry
            .remove_forwarder(key_of(key), &self.links[link]);
        let of_key = &mut self.keys[key];
        let mut tell = BTreeSet::new();
        if of_key.links.contains(&link) {
            of_key.links.retain(|known| *known != link);
            self.multi_deleted += u64::from(of_key.links.len() == 1);
            if of_key.links.is_empty() {
                let sent = &mut of_key.sent_from_afar;
                if of_key.here.is_empty() {
                    tell.append(sent);
                } else {
                    of_key.left_behind.append(sent);
                }
            }
        } else if !of_key.links.is_empty() || !of_key.here.is_empty() {
            // Of a key that nobody has heard of, nothing is said.
            self.not_there += 1;
        }
        let told = departure.tell.iter().map(|peer| peer.id).collect();
        departure.tell(key_of(key));
        self.expect_told(told, tell, key);
    }

    fn send_from_afar(&mut self, key: usize, to: usize) {
        let peer = Arc::clone(&self.conn(to).peer);
        self.registry.note_remote_sent(&key_of(key), &peer);
        if !self.keys[key].links.is_empty() {
            self.keys[key].sent_from_afar.insert(to);
        }
    }

    /// A connection reads all that waits for it.
    fn read(&mut self, who: usize) {
        let conn = self.conn(who);
        let mut out = Vec::new();
        let now = crate::clock::now();
        while conn
            .peer
            .fetch(now, Waker::noop(), &mut out, &mut Tally::default())
        {}
        conn.received.extend_from_slice(&out);
        let mut decoder = FrameDecoder::<ServerSide>::new();
        let (mut seen, mut gone) = (BTreeSet::new(), BTreeMap::<_, u32>::new());
        while let Some(frame) = decoder.decode(&mut conn.received).expect("we send frames") {
            match frame.as_server().expect("it is a server's") {
                ServerFrame::PeerGone { key, .. } => {
                    *gone.entry(usize::from(key.as_bytes()[0])).or_default() += 1;
                }
                ServerFrame::PeerPresent(present) => {
                    seen.insert(usize::from(present.key.as_bytes()[0]));
                }
                other => panic!("nobody sent {other:?}"),
            }
        }
        if conn.watches {
            assert!(seen.is_subset(&conn.view), "{seen:?} of {:?}", conn.view);
        } else {
            assert!(seen.is_empty());
            assert_eq!(
                gone,
                std::mem::take(&mut conn.told_gone),
                "what {who} was told"
            );
        }
    }

    fn check(&self) {
        let mut several = 0;
        for (nth, key) in self.keys.iter().enumerate() {
            let route = self.registry.route(&key_of(nth));
            let active = key.spoke.last().or_else(|| key.here.last());
            match (&route, active, key.links.first()) {
                (Route::Local(peer), Some(active), _) => {
                    assert_eq!(peer.id.0, *active as u64, "key {nth}");
                }
                (Route::Remote(link), None, Some(first)) => {
                    assert!(Arc::ptr_eq(link, &self.links[*first]), "key {nth}");
                }
                (Route::Unknown, None, None) => {}
                _ => panic!("{route:?} of {key:?}"),
            }
            let ids = self.registry.connections_of(&key_of(nth));
            let ids: Vec<_> = ids.iter().map(|peer| number(peer.id)).collect();
            assert_eq!(ids, key.here);
            for who in &key.here {
                let conn = self.conns[*who].as_ref().expect("it has not left");
                let is_one_of_several = key.here.len() > 1;
                several += u64::from(is_one_of_several);
                assert_eq!(conn.peer.is_duplicate(), is_one_of_several);
                assert_eq!(conn.peer.is_current(), active == Some(who));
            }
        }
        let count = |is: fn(&Key) -> bool| self.keys.iter().filter(|key| is(key)).count() as u64;
        let conns = self.conns.iter().flatten();
        let gauges = &self.gauges;
        let counted = [
            (
                "connections",
                gauges.connections.get(),
                conns.clone().count() as u64,
            ),
            (
                "local",
                gauges.clients_local.get(),
                count(|key| !key.here.is_empty()),
            ),
            (
                "remote",
                gauges.clients_remote.get(),
                count(|key| key.here.is_empty() && !key.links.is_empty()),
            ),
            (
                "duplicate keys",
                gauges.dup_client_keys.get(),
                count(|key| key.here.len() > 1),
            ),
            ("duplicates", gauges.dup_client_conns.get(), several),
            (
                "all duplicates",
                gauges.total_dup_client_conns.get(),
                self.duplicates,
            ),
            (
                "watchers",
                gauges.watchers.get(),
                conns.filter(|conn| conn.watches).count() as u64,
            ),
            (
                "several links",
                gauges.multiforwarder_created.get(),
                self.multi_created,
            ),
            (
                "one link again",
                gauges.multiforwarder_deleted.get(),
                self.multi_deleted,
            ),
            (
                "no such link",
                gauges.forwarder_delete_other_value.get(),
                self.not_there,
            ),
        ];
        for (what, counted, expected) in counted {
            assert_eq!(counted, expected, "{what}");
        }
        let known = count(|key| !key.here.is_empty() || !key.links.is_empty());
        assert_eq!(self.registry.len() as u64, known);
    }

    fn finish(&mut self) {
        for who in 0..self.conns.len() {
            if self.conns[who].is_some() {
                self.read(who);
                self.unregister(who);
                self.check();
            }
        }
        for key in 0..KEYS {
            for link in 0..LINKS {
                self.remove_link(key, link);
            }
        }
        self.check();
        for link in &self.links {
            assert_eq!(Arc::strong_count(link), 1, "somebody keeps a link");
        }
    }
}

fn note(spoke: &mut Vec<usize>, who: usize) {
    if spoke.last() == Some(&who) {
        return;
    }
    if spoke.len() == MAX_HISTORY {
        spoke.remove(0);
    }
    spoke.push(who);
}
