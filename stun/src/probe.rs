//! One STUN round trip as a client: our address as the server sees it, and how long it took.
//!
//! This is the only part of the crate that draws random numbers. Name resolution, the choice of
//! servers and the judgement of results are the caller's.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use crate::{BindingRequest, BindingResponse, ProbeError, REQUEST_LEN, ResponseError, TxId};

/// How long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Give up this long after the first request; at most a day.
    pub deadline: Duration,
    /// Send another request whenever this much time brought no answer; never more often than
    /// every 10 ms.
    pub retransmit_every: Duration,
}

impl ProbeOptions {
    /// Tries until `deadline`, twice a second (the first interval of RFC 5389 §7.2.1).
    #[must_use]
    pub const fn within(deadline: Duration) -> Self {
        Self {
            deadline,
            retransmit_every: Duration::from_millis(500),
        }
    }
}

/// What a round trip showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeReport {
    /// Our address as the server saw it; IPv4 is never wrapped in IPv6.
    pub mapped: SocketAddr,
    /// Time from the request that was answered to its answer. Retransmissions don't blur it:
    /// each request has a transaction id of its own.
    pub rtt: Duration,
    /// How many requests had been sent when the answer came.
    pub requests: u32,
    /// Where the answer came from. Clients behind NAT don't get answers from an address other
    /// than the one they asked, so a difference is the server's misconfiguration.
    pub answered_by: SocketAddr,
}

/// Asks `server` from a new socket of its family.
///
/// Dropping the future abandons the probe.
///
/// # Errors
///
/// [`ProbeError::NoAnswer`] at the deadline, another [`ProbeError`] as soon as the operating
/// system refuses to help.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O and time enabled.
pub async fn probe(server: SocketAddr, options: ProbeOptions) -> Result<ProbeReport, ProbeError> {
    let local: SocketAddr = match canonical(server) {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await.map_err(ProbeError::Prepare)?;
    probe_on(&socket, canonical(server), options).await
}

/// Asks `server` through `socket`, which is not connected and which nobody else reads meanwhile.
///
/// Several servers asked one after the other through one socket show whether a NAT gives it the
/// same address towards all of them. Datagrams that answer none of this probe's requests are
/// thrown away.
///
/// # Errors
///
/// As [`probe`](fn@probe).
///
/// # Panics
///
/// As [`probe`](fn@probe).
pub async fn probe_on(
    socket: &UdpSocket,
    server: SocketAddr,
    options: ProbeOptions,
) -> Result<ProbeReport, ProbeError> {
    let ids = RequestIds::draw().map_err(ProbeError::Prepare)?;
    let mut round = Round {
        ids,
        server,
        sent_at: Vec::new(),
        rejected: None,
    };
    let interval = options.retransmit_every.max(SHORTEST_INTERVAL);
    let deadline = Instant::now() + options.deadline.min(LONGEST_DEADLINE);
    loop {
        let now = Instant::now();
        let request = round.next_request(now);
        if let Err(source) = socket.send_to(&request, server).await {
            return Err(ProbeError::Send { server, source });
        }
        let wake = deadline.min(now + interval);
        if let Some(report) = listen(socket, &mut round, wake).await? {
            return Ok(report);
        }
        if Instant::now() >= deadline {
            return Err(round.no_answer());
        }
    }
}

/// Waits until `wake` for an answer of this round.
async fn listen(
    socket: &UdpSocket,
    round: &mut Round,
    wake: Instant,
) -> Result<Option<ProbeReport>, ProbeError> {
    let mut buffer = [0; LONGEST_RESPONSE];
    loop {
        let Ok(received) = timeout_at(wake, socket.recv_from(&mut buffer)).await else {
            return Ok(None);
        };
        let now = Instant::now();
        let (len, from) = received.map_err(ProbeError::Receive)?;
        let datagram = buffer.get(..len).unwrap_or(&buffer);
        if let Some(report) = round.judge(datagram, from, now) {
            return Ok(Some(report));
        }
        if now >= wake {
            // Strangers who keep the socket readable must not keep the probe from its deadline.
            return Ok(None);
        }
    }
}

/// The requests of one probe, and what was heard about them. No I/O; time is passed in.
struct Round {
    ids: RequestIds,
    server: SocketAddr,
    /// When each request was sent; bounded by the deadline over the interval.
    sent_at: Vec<Instant>,
    rejected: Option<ResponseError>,
}

impl Round {
    fn next_request(&mut self, now: Instant) -> [u8; REQUEST_LEN] {
        let txid = self.ids.nth(self.requests());
        self.sent_at.push(now);
        BindingRequest { txid }.encode()
    }

    fn requests(&self) -> u32 {
        u32::try_from(self.sent_at.len()).unwrap_or(u32::MAX)
    }

    /// What `datagram` says, if it answers one of our requests.
    fn judge(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Option<ProbeReport> {
        let answered_by = canonical(from);
        let response = match BindingResponse::parse(datagram) {
            Ok(response) => response,
            Err(error) => {
                if answered_by == canonical(self.server) {
                    self.rejected = Some(error);
                }
                return None;
            }
        };
        let request = usize::try_from(self.ids.position(response.txid)).ok()?;
        let sent_at = self.sent_at.get(request)?;
        Some(ProbeReport {
            mapped: response.mapped,
            rtt: now.saturating_duration_since(*sent_at),
            requests: self.requests(),
            answered_by,
        })
    }

    fn no_answer(self) -> ProbeError {
        ProbeError::NoAnswer {
            server: self.server,
            requests: self.requests(),
            rejected: self.rejected,
        }
    }
}

/// The transaction ids of one probe: a random number and its successors.
///
/// Guessing one is as hard as guessing 96 bits; recognising one needs no table.
#[derive(Debug, Clone, Copy)]
struct RequestIds(u128);

impl RequestIds {
    fn draw() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// The id of request `n`, counted from 0.
    fn nth(self, n: u32) -> TxId {
        let [_, _, _, _, bytes @ ..] = self.0.wrapping_add(n.into()).to_be_bytes();
        TxId::from_bytes(bytes)
    }

    /// The number of the request that has this id; a number never reached if none has.
    fn position(self, txid: TxId) -> u128 {
        let number = txid
            .as_bytes()
            .iter()
            .fold(0, |number, byte| (number << 8) | u128::from(*byte));
        number.wrapping_sub(self.0) & TXID_MASK
    }
}

/// `addr` without IPv6 clothes around an IPv4 address.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// Keeps a mistaken option from flooding a server.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Keeps arithmetic with a mistaken option within the clock's range.
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Room for a response with attributes that we don't read; what fits no Ethernet frame is cut.
const LONGEST_RESPONSE: usize = 1500;

const TXID_MASK: u128 = (1 << 96) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_RESPONSE_LEN;

    const SERVER: &str = "192.0.2.9:3478";

    fn round() -> Round {
        let ids = RequestIds(u128::MAX - 1);
        let server = SERVER.parse().unwrap();
        Round {
            ids,
            server,
            sent_at: Vec::new(),
            rejected: None,
        }
    }

    fn response_to(request: &[u8]) -> Vec<u8> {
        let response = BindingResponse {
            txid: BindingRequest::parse(request).unwrap().txid,
            mapped: "198.51.100.7:40000".parse().unwrap(),
        };
        let mut out = [0; MAX_RESPONSE_LEN];
        let len = response.encode(&mut out);
        out[..len].to_vec()
    }

    #[test]
    fn a_late_answer_to_the_first_request_is_timed_from_the_first_request() {
        let mut round = round();
        let start = Instant::now();
        let first = round.next_request(start);
        // The ids of this round wrap around between its requests.
        let second = round.next_request(start + Duration::from_millis(500));
        let third = round.next_request(start + Duration::from_millis(1000));
        assert!(first != second && second != third);

        let heard = start + Duration::from_millis(1020);
        let mut rtt = |request| {
            let report = round.judge(&response_to(request), SERVER.parse().unwrap(), heard);
            report.map(|report| (report.rtt.as_millis(), report.requests))
        };
        assert_eq!(rtt(&first), Some((1020, 3)));
        assert_eq!(rtt(&second), Some((520, 3)));
        assert_eq!(rtt(&third), Some((20, 3)));
    }

    #[test]
    fn answers_to_requests_that_were_not_sent_are_ignored() {
        let mut round = round();
        let now = Instant::now();
        let unsent = BindingRequest {
            txid: round.ids.nth(1),
        }
        .encode();
        let older = RequestIds(round.ids.0 - 1).nth(0);
        let older = BindingRequest { txid: older }.encode();
        let _ = round.next_request(now);
        for request in [unsent, older] {
            assert_eq!(
                round.judge(&response_to(&request), SERVER.parse().unwrap(), now),
                None
            );
        }
        assert_eq!(round.rejected, None);
    }

    #[test]
    fn only_the_servers_own_bad_answers_are_remembered() {
        let mut round = round();
        let now = Instant::now();
        let request = round.next_request(now);
        assert_eq!(
            round.judge(b"noise", "192.0.2.66:3478".parse().unwrap(), now),
            None
        );
        assert_eq!(round.rejected, None);
        assert_eq!(
            round.judge(&request, "[::ffff:192.0.2.9]:3478".parse().unwrap(), now),
            None
        );
        assert_eq!(round.rejected, Some(ResponseError::NotASuccess(0x0001)));
    }
}
