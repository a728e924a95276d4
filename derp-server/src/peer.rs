//! A connected client as everybody else sees it: its key, and how to get something to it.

use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use derp_proto::{NodePublic, PeerGoneReason, PeerPresentFlags, PingData, ServerFrame};
use derp_verify::TlsVersion;

use crate::budget::HeldBytes;
use crate::inbox::{Inbox, Message};
use crate::lanes::Presence;
use crate::ledger::Ledger;
use crate::parcel::Parcel;
use crate::shared::{AtomicU8, AtomicUsize, Mutex};
use crate::tally::Tally;
use crate::tx::{Notice, SendContext, Sink, Tx};
use crate::wire::Wire;

/// Numbers the connections of a server; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who owns the connection, and reads from it.
#[derive(Debug)]
pub(crate) enum Owner {
    /// A worker, which has it under this number.
    Worker { wire: Wire, inbox: Arc<Inbox> },
    /// A task, which is woken through its [`Sink::Queued`].
    Task,
}

/// What became of a client, in bits that can be read without a lock.
#[derive(Debug, Default)]
struct State(AtomicU8);

impl State {
    const GONE: u8 = 1;
    /// One of several connections of its key.
    const DUPLICATE: u8 = 2;
    /// Another connection of the key is active.
    const STANDBY: u8 = 4;
    /// To be closed as soon as nothing waits for it.
    const LEAVING: u8 = 8;

    fn has(&self, bits: u8) -> bool {
        self.0.load(Ordering::Acquire) & bits != 0
    }

    fn set(&self, bits: u8, on: bool) {
        if on {
            self.0.fetch_or(bits, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!bits, Ordering::AcqRel);
        }
    }
}

/// One connection of a client that has logged in.
///
/// Locks: its sending half has one. Nobody takes a second client's lock, or the registry's,
/// while holding it.
///
/// The order of the fields matters where several processors take part: whoever sends to the client
/// writes to what stands first, while its own worker reads what stands last with each packet *from*
/// the client. Between the two stands what is rarely looked at, so that no cache line has both.
#[repr(C)]
pub(crate) struct Peer {
    tx: Mutex<Tx>,
    /// What [`Tx::held`] said last, for the budget.
    held: AtomicUsize,
    budget: Arc<HeldBytes>,
    /// Where it connected from, for watchers.
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) flags: PeerPresentFlags,
    /// Whether it came over TLS, as far as this relay is its other end.
    pub(crate) tls: Option<TlsVersion>,
    pub(crate) id: ConnId,
    pub(crate) key: NodePublic,
    state: State,
    owner: Owner,
    pub(crate) ledger: Box<Ledger>,
}

const _: () = assert!(
    mem::offset_of!(Peer, key) - mem::offset_of!(Peer, budget) >= 56,
    "a cache line holds what others write, or what the owner reads"
);

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} {:?})", self.id, self.key)
    }
}

/// What a client is from the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) key: NodePublic,
    pub(crate) id: ConnId,
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) flags: PeerPresentFlags,
    pub(crate) tls: Option<TlsVersion>,
}

impl Identity {
    /// One that came from nowhere, without TLS.
    pub(crate) const fn new(key: NodePublic, id: ConnId, flags: PeerPresentFlags) -> Self {
        Self {
            key,
            id,
            addr: None,
            flags,
            tls: None,
        }
    }
}

impl Peer {
    pub(crate) fn new(who: Identity, owner: Owner, sink: Sink, budget: Arc<HeldBytes>) -> Self {
        Self {
            tx: Mutex::new(Tx::new(sink)),
            held: AtomicUsize::new(0),
            budget,
            addr: who.addr,
            flags: who.flags,
            tls: who.tls,
            id: who.id,
            key: who.key,
            state: State::default(),
            owner,
            ledger: Box::default(),
        }
    }

    /// A client whose connection is a task's, if anybody serves it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of_task(
        key: NodePublic,
        id: ConnId,
        flags: PeerPresentFlags,
        budget: Arc<HeldBytes>,
    ) -> Arc<Self> {
        let who = Identity::new(key, id, flags);
        let sink = Sink::Queued {
            waker: None,
            is_stuck: false,
        };
        Arc::new(Self::new(who, Owner::Task, sink, budget))
    }

    pub(crate) fn is_mesh_peer(&self) -> bool {
        self.flags.contains(PeerPresentFlags::MESH_PEER)
    }

    pub(crate) fn is_not_ideal(&self) -> bool {
        self.flags.contains(PeerPresentFlags::NOT_IDEAL)
    }

    /// Whether a route to this connection that was looked up earlier still holds.
    pub(crate) fn is_current(&self) -> bool {
        !self.state.has(State::GONE | State::STANDBY)
    }

    /// Whether another connection of the key is the one that packets go to.
    pub(crate) fn is_standby(&self) -> bool {
        self.state.has(State::STANDBY)
    }

    /// Whether the key has several connections; for consistency checks.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn is_duplicate(&self) -> bool {
        self.state.has(State::DUPLICATE)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.state.has(State::GONE)
    }

    pub(crate) fn set_duplicate(&self, duplicate: bool, active: bool) {
        self.state.set(State::DUPLICATE, duplicate);
        self.state.set(State::STANDBY, duplicate && !active);
    }

    pub(crate) const fn wire(&self) -> Option<&Wire> {
        match &self.owner {
            Owner::Worker { wire, .. } => Some(wire),
            Owner::Task => None,
        }
    }

    /// A panic while the lock was held has left nothing half-changed that matters: the
    /// connection of whoever panicked is closed, and this one's bytes are counted anew.
    fn lock(&self) -> MutexGuard<'_, Tx> {
        self.tx.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the sending half, and then what it asks for, outside of its lock.
    fn with_tx<R>(&self, work: impl FnOnce(&mut Tx) -> (R, Notice)) -> R {
        let mut tx = self.lock();
        let (result, notice) = work(&mut tx);
        let held = tx.held();
        // Both are written under the lock alone, so that nobody is overtaken by what was true
        // before, and the budget takes nothing back that it has not been given.
        let before = self.held.load(Ordering::Relaxed);
        if before != held {
            self.held.store(held, Ordering::Relaxed);
            self.budget.change(before, held);
        }
        drop(tx);
        if notice != Notice::default() {
            self.act_on(notice);
        }
        result
    }

    fn act_on(&self, notice: Notice) {
        let Owner::Worker { wire, inbox } = &self.owner else {
            return;
        };
        if notice.broken {
            self.state.set(State::GONE, true);
            wire.shutdown();
            inbox.post(Message::Close(self.id));
        }
        if notice.stalled {
            inbox.post(Message::Stalled(self.id));
        }
        if notice.more {
            inbox.post(Message::Drain(self.id));
        }
    }

    /// Sends packets; see [`Tx::deliver`].
    pub(crate) fn deliver(
        &self,
        parcel: &mut Parcel<'_>,
        context: SendContext,
        scratch: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        self.with_tx(|tx| ((), tx.deliver(self.wire(), parcel, context, scratch, tally)));
    }

    /// Sends what waits, where this connection is written to directly.
    pub(crate) fn drain(&self, context: SendContext, scratch: &mut Vec<u8>, tally: &mut Tally) {
        if let Some(wire) = self.wire() {
            self.with_tx(|tx| ((), tx.drain(wire, context, scratch, tally)));
        }
    }

    /// Lets a control frame wait, and has the owner send it soon.
    pub(crate) fn notify(&self, work: impl FnOnce(&mut crate::lanes::Lanes)) {
        let queued = self.with_tx(|tx| {
            if tx.is_gone() {
                return (false, Notice::default());
            }
            work(tx.lanes());
            tx.wake();
            (tx.ask_to_drain(), Notice::default())
        });
        if queued && let Owner::Worker { inbox, .. } = &self.owner {
            inbox.post(Message::Drain(self.id));
        }
    }

    pub(crate) fn notify_gone(&self, key: NodePublic, reason: PeerGoneReason) {
        self.notify(|lanes| lanes.push_gone(key, reason));
    }

    pub(crate) fn notify_presence(&self, key: NodePublic, presence: Presence) {
        self.notify(|lanes| lanes.push_presence(key, presence));
    }

    pub(crate) fn notify_frame(&self, frame: &ServerFrame<'_>) {
        self.notify(|lanes| lanes.push_notice(frame));
    }

    /// Lets a control frame wait; for the owner, which drains after it.
    pub(crate) fn push(&self, work: impl FnOnce(&mut crate::lanes::Lanes)) {
        self.with_tx(|tx| {
            if !tx.is_gone() {
                work(tx.lanes());
                tx.wake();
            }
            ((), Notice::default())
        });
    }

    pub(crate) fn push_pong(&self, data: PingData) {
        self.push(|lanes| {
            let _kept = lanes.push_pong(data);
        });
    }

    /// See [`Tx::update_key`].
    pub(crate) fn update_key(&self) {
        self.lock().update_key();
    }

    /// Has the task that owns the stream look around, where one does.
    pub(crate) fn wake_task(&self) {
        self.lock().wake_anyway();
    }

    /// For the task that owns the stream; see [`Tx::stuck`].
    pub(crate) fn stuck(&self, waker: &Waker) {
        self.lock().stuck(waker);
    }

    /// For the task that owns the stream; see [`Tx::fetch`].
    pub(crate) fn fetch(
        &self,
        now: Instant,
        waker: &Waker,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> bool {
        self.with_tx(|tx| (tx.fetch(now, waker, out, tally), Notice::default()))
    }

    /// See [`Tx::write_deadline`].
    pub(crate) fn write_deadline(&self, patience: Option<Duration>) -> Option<Instant> {
        self.lock().write_deadline(patience)
    }

    /// See [`Tx::shrink_to`].
    pub(crate) fn shrink_to(&self, bytes: usize, tally: &mut Tally) {
        self.with_tx(|tx| (tx.shrink_to(bytes, tally), Notice::default()));
    }

    /// Bytes held for this client.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What waits for this client, counted anew.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn waiting(&self) -> crate::tx::WaitingNow {
        self.lock().waiting()
    }

    /// Packets and bytes written to this client so far.
    pub(crate) fn sent(&self) -> (u64, u64) {
        let tx = self.lock();
        (tx.packets_sent, tx.bytes_sent)
    }

    /// Asks the owner to end the connection.
    pub(crate) fn close(&self) {
        self.state.set(State::GONE, true);
        match &self.owner {
            Owner::Worker { inbox, .. } => inbox.post(Message::Close(self.id)),
            Owner::Task => self.lock().wake_anyway(),
        }
    }

    /// Asks the owner to end the connection once what waits for the client is sent. No packets are
    /// added to that; a client that takes nothing at all ends by the write timeout.
    pub(crate) fn close_when_sent(&self) {
        self.state.set(State::LEAVING, true);
        let mut tx = self.lock();
        tx.take_no_more();
        tx.wake_anyway();
        drop(tx);
        if let Owner::Worker { inbox, .. } = &self.owner {
            inbox.post(Message::Drain(self.id));
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state.has(State::LEAVING)
    }

    /// For the owner: whether it is to end the connection now, for nothing waits any more.
    pub(crate) fn can_leave(&self) -> bool {
        self.is_leaving() && !self.lock().is_waiting()
    }

    /// The owner has ended the connection: nothing more goes out.
    pub(crate) fn closed(&self, scratch: &mut Vec<u8>, tally: &mut Tally) {
        self.state.set(State::GONE, true);
        // Whatever becomes of the goodbye.
        let _shut = self.wire().map(Shut);
        self.with_tx(|tx| {
            if let Some(wire) = self.wire() {
                tx.say_goodbye(wire, scratch);
            }
            tx.close(tally);
            ((), Notice::default())
        });
    }
}

/// A connection that is shut down at the end.
struct Shut<'a>(&'a Wire);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
