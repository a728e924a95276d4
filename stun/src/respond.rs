//! The whole STUN server as a function from a datagram to an answer.
//!
//! No socket, no clock, no memory of earlier datagrams, no allocation: what a flood costs is
//! what this function costs. [`StunServer`](crate::StunServer) adds the socket.

use std::net::SocketAddr;

use crate::{AddrFamily, BindingRequest, BindingResponse, MAX_RESPONSE_LEN, RequestError};

/// What [`respond`] made of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The first `len` bytes of the output are the response; send them to where the datagram
    /// came from.
    Success {
        /// The family of the sender's address, as the response states it.
        family: AddrFamily,
        /// Length of the response in bytes: 32 for IPv4, 44 for IPv6.
        len: usize,
    },
    /// Not a request that is answered; the reference counts all of these as "not STUN".
    NotStun(RequestError),
    /// A request from port 0, which no answer can reach: the sender is forged.
    NoReturnPort,
}

/// Answers one datagram that came from `from`, or says why it gets no answer.
///
/// Responses, indications and errors are never answered, so that two servers cannot be set on
/// each other. A sender of the form `::ffff:192.0.2.1`, as IPv4 senders look on an IPv6 socket,
/// is told its IPv4 address in the short form: the answer stays smaller than the question.
///
/// `out` is written only on [`Outcome::Success`].
pub fn respond(datagram: &[u8], from: SocketAddr, out: &mut [u8; MAX_RESPONSE_LEN]) -> Outcome {
    let request = match BindingRequest::parse(datagram) {
        Ok(request) => request,
        Err(error) => return Outcome::NotStun(error),
    };
    if from.port() == 0 {
        return Outcome::NoReturnPort;
    }
    let response = BindingResponse {
        txid: request.txid,
        mapped: from,
    };
    Outcome::Success {
        family: AddrFamily::of(from.ip()),
        len: response.encode(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TxId;

    fn answer(datagram: &[u8], from: &str) -> (Outcome, Vec<u8>) {
        let mut out = [0; MAX_RESPONSE_LEN];
        let outcome = respond(datagram, from.parse().unwrap(), &mut out);
        let len = match outcome {
            Outcome::Success { len, .. } => len,
            Outcome::NotStun(_) | Outcome::NoReturnPort => 0,
        };
        assert_eq!(
            out[len..],
            [0; MAX_RESPONSE_LEN][len..],
            "bytes past the answer"
        );
        (outcome, out[..len].to_vec())
    }

    #[test]
    fn an_ipv4_sender_on_an_ipv6_socket_gets_the_short_answer() {
        let request = BindingRequest {
            txid: TxId::from_bytes([7; 12]),
        }
        .encode();
        let direct = answer(&request, "192.0.2.1:32853");
        assert_eq!(
            direct.0,
            Outcome::Success {
                family: AddrFamily::Ipv4,
                len: 32
            }
        );
        assert_eq!(answer(&request, "[::ffff:192.0.2.1]:32853"), direct);
    }

    #[test]
    fn an_ipv6_sender_gets_the_long_answer() {
        let request = BindingRequest {
            txid: TxId::from_bytes([7; 12]),
        }
        .encode();
        let (outcome, bytes) = answer(&request, "[2001:db8::1]:257");
        assert_eq!(
            outcome,
            Outcome::Success {
                family: AddrFamily::Ipv6,
                len: 44
            }
        );
        let response = BindingResponse {
            txid: TxId::from_bytes([7; 12]),
            mapped: "[2001:db8::1]:257".parse().unwrap(),
        };
        assert_eq!(BindingResponse::parse(&bytes), Ok(response));
    }

    #[test]
    fn a_request_from_port_zero_is_not_answered() {
        let request = BindingRequest {
            txid: TxId::from_bytes([7; 12]),
        }
        .encode();
        assert_eq!(
            answer(&request, "192.0.2.1:0"),
            (Outcome::NoReturnPort, vec![])
        );
    }

    #[test]
    fn two_servers_cannot_be_set_on_each_other() {
        let request = BindingRequest {
            txid: TxId::from_bytes([7; 12]),
        }
        .encode();
        let (_, response) = answer(&request, "192.0.2.1:3478");
        assert_eq!(
            answer(&response, "192.0.2.2:3478"),
            (
                Outcome::NotStun(RequestError::NotABindingRequest(0x0101)),
                vec![]
            )
        );
    }
}
