//! STUN requests from one socket: what an answer costs.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use derp_stun::{BindingRequest, BindingResponse, MAX_RESPONSE_LEN, REQUEST_LEN, TxId};

use crate::args::{Relay, Stun};
use crate::clock::Clock;
use crate::histogram::Histogram;
use crate::report::{Report, Watch};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

pub(crate) fn run(relay: &Relay, args: &Stun, clock: Clock) -> Result<Report> {
    ensure!(
        (1..=256).contains(&args.window),
        "a window of {}",
        args.window
    );
    let target = relay.target()?;
    let socket = UdpSocket::bind((target.addr.ip(), 0))?;
    socket.connect((target.addr.ip(), args.stun_port))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let mut asker = Asker {
        own: socket.local_addr()?,
        socket,
        clock,
        slots: Vec::new(),
    };
    let (start, end) = args.span.bounds()?;
    let begin = clock.now();
    for slot in 0..args.window {
        asker.slots.push(Slot {
            round: 0,
            sent: 0,
            request: [0; REQUEST_LEN],
        });
        asker.ask(slot)?;
    }
    asker.run_until(begin + start)?;
    let watch = Watch::start(clock, relay.pid)?;
    let times = asker.run_until(begin + end)?;
    let cost = watch.end()?;

    let mut report = Report::new("stun")?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let answers = times.count() as f64;
    report.add("window", args.window);
    report.add("seconds", cost.seconds);
    report.add("answers", times.count());
    report.add("answers_per_s", answers / cost.seconds);
    report.add("server_us_per_answer", cost.server_us / answers.max(1.0));
    report.add("generator_us_per_answer", cost.own_us / answers.max(1.0));
    report.add("p50_us", times.quantile(0.5));
    report.add("p99_us", times.quantile(0.99));
    Ok(report)
}

struct Asker {
    socket: UdpSocket,
    own: SocketAddr,
    clock: Clock,
    slots: Vec<Slot>,
}

/// One of the requests that are under way.
struct Slot {
    round: u64,
    sent: u64,
    request: [u8; REQUEST_LEN],
}

impl Asker {
    /// The transaction's bytes tell slot and round, so that no answer can stand for another's.
    fn transaction(slot: usize, round: u64) -> TxId {
        let mut bytes = [0; 12];
        let slot = u32::try_from(slot).expect("arguments limit the window");
        bytes[..4].copy_from_slice(&slot.to_be_bytes());
        bytes[4..].copy_from_slice(&round.to_be_bytes());
        TxId::from_bytes(bytes)
    }

    fn ask(&mut self, slot: usize) -> Result<()> {
        let transaction = Self::transaction(slot, self.slots[slot].round + 1);
        let state = &mut self.slots[slot];
        state.round += 1;
        state.request = BindingRequest { txid: transaction }.encode();
        state.sent = self.clock.now();
        self.socket.send(&state.request)?;
        Ok(())
    }

    fn run_until(&mut self, end: u64) -> Result<Histogram> {
        let mut times = Histogram::new();
        let mut datagram = [0; MAX_RESPONSE_LEN + 1];
        while self.clock.now() < end {
            let len = self
                .socket
                .recv(&mut datagram)
                .context("waiting for an answer")?;
            let answer = BindingResponse::parse(&datagram[..len])?;
            let id = answer.txid.as_bytes();
            let slot = u32::from_be_bytes(id[..4].try_into().expect("four of twelve bytes"));
            let slot = usize::try_from(slot)?;
            let state = self.slots.get(slot).context("an answer to no request")?;
            ensure!(
                answer.txid == Self::transaction(slot, state.round),
                "an answer came twice"
            );
            ensure!(
                answer.mapped == self.own,
                "told {}, not {}",
                answer.mapped,
                self.own
            );
            times.add(self.clock.now() - state.sent);
            self.ask(slot)?;
        }
        Ok(times)
    }
}
