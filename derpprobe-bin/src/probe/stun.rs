//! Does the node answer STUN, from the address that was asked, and with an address that can be
//! ours?

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use derp_stun::{ProbeError, ProbeOptions};
use thiserror::Error;
use tokio::net::UdpSocket;

use super::reported::{self, ReportedFault};
use crate::deadline::Deadline;
use crate::outcome::Findings;

/// What is wrong with a node's STUN.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StunFault {
    /// The server is silent, answers nonsense, or cannot be asked.
    #[error(transparent)]
    Probe(ProbeError),
    /// It answers nothing; packets may be lost on the way there or back.
    #[error("no STUN answer from {server} to {requests} requests; is it running, and is UDP port \
             {} open?", server.port())]
    Silent {
        /// Who was asked.
        server: SocketAddr,
        /// How often.
        requests: u32,
    },
    /// Clients behind NAT never see an answer from an address that they did not ask.
    #[error(
        "{asked} was asked and {answered} answered, which clients behind NAT never see; bind \
             the server to one address"
    )]
    AnotherAddress {
        /// Who was asked.
        asked: SocketAddr,
        /// Who answered.
        answered: SocketAddr,
    },
    /// The address in the answer is not ours.
    #[error(transparent)]
    Reported(#[from] ReportedFault),
}

pub(super) async fn probe(
    server: SocketAddr,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), StunFault> {
    let options = ProbeOptions::within(deadline.remaining());
    let asked = SocketAddr::new(server.ip().to_canonical(), server.port());
    let prepare = |err| StunFault::Probe(ProbeError::Prepare(err));
    let socket = bind(asked).await.map_err(prepare)?;
    let own_port = socket.local_addr().map_err(prepare)?.port();
    let report = derp_stun::probe_on(&socket, asked, options)
        .await
        .map_err(|err| match err {
            ProbeError::NoAnswer {
                server,
                requests,
                rejected: None,
            } => StunFault::Silent { server, requests },
            err => StunFault::Probe(err),
        })?;
    findings.seconds("round_trip_seconds", report.rtt);
    findings.fact("reported_address", report.mapped.to_string());
    if report.answered_by != asked {
        return Err(StunFault::AnotherAddress {
            asked,
            answered: report.answered_by,
        });
    }
    if let Some(own) = own_address(asked, own_port).await {
        reported::check(asked, own, report.mapped)?;
    }
    Ok(())
}

/// A socket of the server's family that takes answers from everybody.
async fn bind(server: SocketAddr) -> io::Result<UdpSocket> {
    match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await,
    }
}

/// This machine's address towards the server, with the port of the socket that asked. Nothing is
/// sent: the system alone decides by which of its addresses it would.
async fn own_address(server: SocketAddr, port: u16) -> Option<SocketAddr> {
    let socket = bind(server).await.ok()?;
    socket.connect(server).await.ok()?;
    Some(SocketAddr::new(socket.local_addr().ok()?.ip(), port))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use derp_stun::{BindingRequest, BindingResponse, MAX_RESPONSE_LEN, StunServer};
    use tokio::net::UdpSocket;

    use super::*;

    async fn asked_by_us(server: SocketAddr, time: Duration) -> Result<(), StunFault> {
        probe(server, Deadline::after(time), &mut Findings::default()).await
    }

    #[tokio::test]
    async fn a_server_of_ours_tells_our_address_in_both_families() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let stun = StunServer::bind(local.parse().unwrap()).unwrap();
            let server = stun.local_addr();
            let serving = tokio::spawn(async move { stun.serve().await });
            let mut findings = Findings::default();
            let deadline = Deadline::after(Duration::from_secs(10));
            probe(server, deadline, &mut findings).await.unwrap();
            let [(what, address)] = &findings.facts[..] else {
                panic!("{findings:?}");
            };
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!((*what, address.ip()), ("reported_address", server.ip()));
            serving.abort();
        }
    }

    #[tokio::test]
    async fn a_server_that_tells_another_address_is_bad() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = socket.local_addr().unwrap();
        let script = async {
            let mut buffer = [0; 2048];
            let (len, client) = socket.recv_from(&mut buffer).await.unwrap();
            let txid = BindingRequest::parse(&buffer[..len]).unwrap().txid;
            let mut out = [0; MAX_RESPONSE_LEN];
            let mapped = "192.0.2.7:1234".parse().unwrap();
            let len = BindingResponse { txid, mapped }.encode(&mut out);
            socket.send_to(&out[..len], client).await.unwrap();
        };
        let (result, ()) = tokio::join!(asked_by_us(server, Duration::from_secs(10)), script);
        let words = result.unwrap_err().to_string();
        let start = "the server says that it was asked by 192.0.2.7:1234, and it was 127.0.0.1:";
        assert!(words.starts_with(start), "{words}");
    }

    #[tokio::test]
    async fn an_answer_from_another_address_is_a_fault() {
        let asked = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let other = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0))
            .await
            .unwrap();
        let (server, elsewhere) = (asked.local_addr().unwrap(), other.local_addr().unwrap());
        let script = async {
            let mut buffer = [0; 2048];
            let (len, client) = asked.recv_from(&mut buffer).await.unwrap();
            let txid = BindingRequest::parse(&buffer[..len]).unwrap().txid;
            let mut out = [0; MAX_RESPONSE_LEN];
            let len = BindingResponse {
                txid,
                mapped: client,
            }
            .encode(&mut out);
            other.send_to(&out[..len], client).await.unwrap();
        };
        let (result, ()) = tokio::join!(asked_by_us(server, Duration::from_secs(10)), script);
        let expected = format!(
            "{server} was asked and {elsewhere} answered, which clients behind NAT never see; bind \
             the server to one address"
        );
        assert_eq!(result.unwrap_err().to_string(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_says_what_to_look_at() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = silent.local_addr().unwrap();
        let fault = asked_by_us(server, Duration::from_secs(12))
            .await
            .unwrap_err();
        let expected = format!(
            "no STUN answer from {server} to 24 requests; is it running, and is UDP port {} open?",
            server.port()
        );
        assert_eq!(fault.to_string(), expected);
    }
}
