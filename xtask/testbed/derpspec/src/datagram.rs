//! STUN datagrams by hand (RFC 8489, with what `net/stun/stun.go` demands), right or wrong.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::random;
use crate::verdict::{Checked, Failure, shown};

pub(crate) const SOFTWARE: u16 = 0x8022;
pub(crate) const FINGERPRINT: u16 = 0x8028;
/// What clients call themselves.
pub(crate) const TAILNODE: &[u8] = b"tailnode";

const HEADER_LEN: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) transaction: [u8; 12],
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    /// A header of this type, with a new transaction.
    pub(crate) fn new(ty: u16) -> Self {
        let transaction = random();
        let bytes = [&ty.to_be_bytes()[..], &[0, 0], &COOKIE, &transaction].concat();
        Self { transaction, bytes }
    }

    /// The request of all clients.
    pub(crate) fn request() -> Self {
        Self::new(1).with(SOFTWARE, TAILNODE).with_fingerprint()
    }

    /// The same with a further attribute, padded as it must be.
    pub(crate) fn with(mut self, ty: u16, value: &[u8]) -> Self {
        let len = u16::try_from(value.len()).expect("values of cases are short");
        self.bytes.extend(ty.to_be_bytes());
        self.bytes.extend(len.to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.with_length(0)
    }

    /// The same with `extra` more in the header's length than it has.
    pub(crate) fn with_length(mut self, extra: i16) -> Self {
        let len = u16::try_from(self.bytes.len() - HEADER_LEN).expect("datagrams are short");
        self.bytes[2..4].copy_from_slice(&len.wrapping_add_signed(extra).to_be_bytes());
        self
    }

    /// The same with the checksum of what it has now.
    pub(crate) fn with_fingerprint(self) -> Self {
        self.with_fingerprint_and_length(0)
    }

    /// The same with this error in the header's length, which the checksum covers.
    pub(crate) fn with_fingerprint_and_length(self, extra: i16) -> Self {
        let mut whole = self.with(FINGERPRINT, &[0; 4]).with_length(extra);
        let covered = whole.bytes.len() - 8;
        let sum = derp_stun::fingerprint(&whole.bytes[..covered]);
        whole.bytes[covered + 4..].copy_from_slice(&sum.to_be_bytes());
        whole
    }

    /// The same with another byte at this place.
    pub(crate) fn flipped(mut self, at: usize) -> Self {
        self.bytes[at] ^= 1;
        self
    }

    /// The same with these bytes behind it.
    pub(crate) fn followed_by(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// The same, cut after so many bytes.
    pub(crate) fn cut(mut self, len: usize) -> Self {
        self.bytes.truncate(len);
        self
    }

    /// What the success response says to `addr`.
    pub(crate) fn response(&self, addr: SocketAddr) -> Vec<u8> {
        let (family, octets) = match addr {
            SocketAddr::V4(addr) => (1, addr.ip().octets().to_vec()),
            SocketAddr::V6(addr) => (2, addr.ip().octets().to_vec()),
        };
        let mask = [&COOKIE[..], &self.transaction].concat();
        let octets = octets.iter().zip(&mask).map(|(a, b)| a ^ b);
        let port = addr.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let mut response = Self::new(0x0101);
        response.transaction = self.transaction;
        response.bytes[8..].copy_from_slice(&self.transaction);
        let value: Vec<u8> = [0, family]
            .into_iter()
            .chain(port.to_be_bytes())
            .chain(octets)
            .collect();
        response.with(0x0020, &value).bytes
    }
}

/// A client's socket.
pub(crate) struct Socket {
    cx: Cx,
    udp: UdpSocket,
    pub(crate) server: SocketAddr,
    /// What the server sees of it.
    pub(crate) addr: SocketAddr,
}

impl Cx {
    /// A socket for the `n`th STUN address of this family.
    pub(crate) async fn stun(&self, is_ipv4: bool, n: usize) -> Checked<Socket> {
        let mut addrs = self
            .target()
            .stun
            .iter()
            .filter(|addr| addr.is_ipv4() == is_ipv4);
        let server = *addrs
            .nth(n)
            .ok_or_else(|| Failure::new("an address", "none"))?;
        let any = if is_ipv4 { "0.0.0.0:0" } else { "[::]:0" };
        let failed = |err: std::io::Error| Failure::new("a socket", err.to_string());
        // A connected one knows its own address. It would not show answers from elsewhere, so
        // another one, not connected, does the talking.
        let probe = UdpSocket::bind(any).await.map_err(failed)?;
        probe.connect(server).await.map_err(failed)?;
        let mut addr = probe.local_addr().map_err(failed)?;
        addr.set_port(0);
        let udp = UdpSocket::bind(addr).await.map_err(failed)?;
        let addr = udp.local_addr().map_err(failed)?;
        Ok(Socket {
            cx: self.clone(),
            udp,
            server,
            addr,
        })
    }
}

impl Socket {
    pub(crate) async fn send(&self, datagram: &Datagram) -> Checked {
        self.cx.note_bytes(1, '>', &datagram.bytes);
        let sent = self.udp.send_to(&datagram.bytes, self.server).await;
        sent.map(|_| ())
            .map_err(|err| Failure::new("a datagram that is sent", err.to_string()))
    }

    /// What comes within this time.
    pub(crate) async fn receive(&self, within: Duration) -> Checked<Option<(Vec<u8>, SocketAddr)>> {
        let mut buf = vec![0; 70_000];
        let received = match timeout(within, self.udp.recv_from(&mut buf)).await {
            Err(_) => None,
            Ok(Ok((len, from))) => Some((buf[..len].to_vec(), from)),
            Ok(Err(err)) => return Err(Failure::new("a datagram", err.to_string())),
        };
        let Some((mut bytes, from)) = received else {
            return Ok(None);
        };
        self.cx.note_bytes(1, '<', &bytes);
        match self.cx.fault() {
            Some(Fault::LoseDatagram) => return Ok(None),
            Some(Fault::FlipDatagram(at)) => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1;
                }
            }
            Some(Fault::LengthenDatagram) => bytes.extend([0; 4]),
            _ => {}
        }
        Ok(Some((bytes, from)))
    }

    /// The answer to a request.
    pub(crate) async fn ask(&self, request: &Datagram) -> Checked<(Vec<u8>, SocketAddr)> {
        self.send(request).await?;
        let answer = self.receive(self.cx.patience()).await?;
        answer.ok_or_else(|| Failure::new("an answer", "nothing"))
    }

    /// Whether a datagram is answered: it is not if a good request behind it is, and it still
    /// is not a moment later.
    pub(crate) async fn answers(&self, datagram: &Datagram) -> Checked<bool> {
        if self.cx.fault() == Some(Fault::AnswerDatagram) {
            return Ok(true);
        }
        self.send(datagram).await?;
        let good = Datagram::request();
        self.send(&good).await?;
        let (first, _) = self
            .receive(self.cx.patience())
            .await?
            .ok_or_else(|| Failure::new("an answer to the good request", "nothing"))?;
        let is_for = |bytes: &[u8], asked: &Datagram| bytes.get(8..20) == Some(&asked.transaction);
        if !is_for(&first, &good) {
            return Ok(true);
        }
        let later = self.receive(Duration::from_millis(30)).await?;
        match later {
            None => Ok(false),
            Some((bytes, _)) if is_for(&bytes, &good) => {
                Err(Failure::new("one answer", shown(&bytes)))
            }
            Some(_) => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_are_those_of_the_reference() {
        let mut request = Datagram::new(1);
        request.transaction = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        request.bytes[8..].copy_from_slice(&request.transaction);
        let request = request.with(SOFTWARE, TAILNODE).with_fingerprint();
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(
            hex(&request.bytes),
            "000100142112a442000102030405060708090a0b802200087461696c6e6f6465802800048aabad90"
        );
        let response = |addr: &str| hex(&request.response(addr.parse().unwrap()));
        assert_eq!(
            response("192.0.2.1:32853"),
            "0101000c2112a442000102030405060708090a0b002000080001a147e112a643"
        );
        assert_eq!(
            response("[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
            "010100182112a442000102030405060708090a0b\
             002000140002a1470113a9fa1235547b041424344c5c6c7c"
        );
    }
}
