//! One STUN round trip as a client: our address as the server sees it, and how long it took.
//!
//! This is the only part of the crate that draws random numbers. Name resolution, the choice of
//! servers and the judgement of results are the caller's.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use crate::{BindingRequest, BindingResponse, MAX_RESPONSE_LEN, ProbeError, ResponseError, TxId};

/// How long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Give up this long after the first request.
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
pub async fn probe_on(
    socket: &UdpSocket,
    server: SocketAddr,
    options: ProbeOptions,
) -> Result<ProbeReport, ProbeError> {
    let ids = RequestIds::draw().map_err(ProbeError::Prepare)?;
    let interval = options.retransmit_every.max(SHORTEST_INTERVAL);
    let deadline = Instant::now() + options.deadline;
    // Bounded by the deadline over the interval.
    let mut sent_at: Vec<Instant> = Vec::new();
    let mut requests = 0;
    let mut rejected = None;
    loop {
        let now = Instant::now();
        if requests > 0 && now >= deadline {
            return Err(ProbeError::NoAnswer { server, requests, rejected });
        }
        let request = BindingRequest { txid: ids.nth(requests) }.encode();
        if let Err(source) = socket.send_to(&request, server).await {
            return Err(ProbeError::Send { server, source });
        }
        sent_at.push(now);
        requests += 1;

        let wake = deadline.min(now + interval);
        let Some(heard) = listen(socket, server, ids, &sent_at, wake, &mut rejected).await else {
            continue;
        };
        return heard
            .map(|answer| ProbeReport {
                mapped: answer.mapped,
                rtt: answer.rtt,
                requests,
                answered_by: answer.answered_by,
            })
            .map_err(ProbeError::Receive);
    }
}
