//! Does the node answer STUN, and from the address that was asked?

use std::net::SocketAddr;

use derp_stun::{ProbeError, ProbeOptions};
use thiserror::Error;

use crate::deadline::Deadline;

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
}

pub(super) async fn probe(server: SocketAddr, deadline: Deadline) -> Result<(), StunFault> {
    let options = ProbeOptions::within(deadline.remaining());
    let report = derp_stun::probe(server, options)
        .await
        .map_err(|err| match err {
            ProbeError::NoAnswer {
                server,
                requests,
                rejected: None,
            } => StunFault::Silent { server, requests },
            err => StunFault::Probe(err),
        })?;
    let asked = SocketAddr::new(server.ip().to_canonical(), server.port());
    if report.answered_by != asked {
        return Err(StunFault::AnotherAddress {
            asked,
            answered: report.answered_by,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use derp_stun::{BindingRequest, BindingResponse, MAX_RESPONSE_LEN};
    use tokio::net::UdpSocket;

    use super::*;

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
        let (result, ()) = tokio::join!(
            probe(server, Deadline::after(Duration::from_secs(10))),
            script
        );
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
        let fault = probe(server, Deadline::after(Duration::from_secs(12)))
            .await
            .unwrap_err();
        let expected = format!(
            "no STUN answer from {server} to 24 requests; is it running, and is UDP port {} open?",
            server.port()
        );
        assert_eq!(fault.to_string(), expected);
    }
}
