//! STUN binding messages between bytes and values (RFC 5389, `net/stun/stun.go`).
//!
//! Only what [`respond`](fn@crate::respond) and [`probe`](fn@crate::probe) need: one request form,
//! one response form. No sockets, no clock, no randomness, no allocation.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    RequestError, ResponseError,
    attribute::{self, Attribute, Attributes, MalformedAttribute},
    fingerprint,
};

/// Length in bytes of the request that [`BindingRequest::encode`] makes.
///
/// No shorter request is answered: header, SOFTWARE and FINGERPRINT add up to exactly this.
pub const REQUEST_LEN: usize = HEADER_LEN + SOFTWARE_LEN + FINGERPRINT_LEN;

/// Length in bytes of the longest response: 44 for IPv6; one for IPv4 takes 32.
pub const MAX_RESPONSE_LEN: usize = HEADER_LEN + attribute::HEADER_LEN + 20;

/// Names a request, so that its answer can be told from all others; 96 bits.
///
/// Whoever waits for an answer must choose it at random: it is all that keeps strangers from
/// answering in the server's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TxId([u8; 12]);

impl TxId {
    /// The id with these bytes, which the caller drew at random.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxId({self})")
    }
}

/// The family of an address, as STUN and the metrics tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddrFamily {
    /// IPv4, whichever socket it came in by.
    Ipv4,
    /// IPv6, except addresses that only wrap an IPv4 one.
    Ipv6,
}

impl AddrFamily {
    /// The family of `addr`; `::ffff:192.0.2.1` is IPv4.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

/// Whether `datagram` looks like STUN at all: a full header, two zero bits, the magic cookie.
///
/// This is the test by which STUN is told from other traffic on one port (RFC 5389 §6).
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    Header::read(datagram).is_some()
}

/// A binding request of a Tailscale client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingRequest {
    /// Names the request; the response repeats it.
    pub txid: TxId,
}

impl BindingRequest {
    /// The request as clients send it: SOFTWARE `tailnode` at offset 20, then FINGERPRINT.
    ///
    /// The order is part of the format: relays that answer inside the network driver look for
    /// SOFTWARE at its fixed place.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut out = [0; REQUEST_LEN];
        out[..20].copy_from_slice(&header(BINDING_REQUEST, 20, self.txid));
        out[20..22].copy_from_slice(&SOFTWARE.to_be_bytes());
        out[22..24].copy_from_slice(&8_u16.to_be_bytes());
        out[24..32].copy_from_slice(TAILNODE);
        let fingerprint = fingerprint(&out[..32]);
        out[32..34].copy_from_slice(&FINGERPRINT.to_be_bytes());
        out[34..36].copy_from_slice(&4_u16.to_be_bytes());
        out[36..].copy_from_slice(&fingerprint.to_be_bytes());
        out
    }

    /// Reads a request that this crate's server would answer.
    ///
    /// Attributes of other types may stand before FINGERPRINT and mean nothing. Unlike the
    /// reference, the header's length field must equal the bytes that follow the header.
    ///
    /// # Errors
    ///
    /// The first rule that `datagram` breaks, in the order of [`RequestError`]'s variants.
    pub fn parse(datagram: &[u8]) -> Result<Self, RequestError> {
        let Some((header, attributes)) = Header::read(datagram) else {
            return Err(RequestError::NotStun);
        };
        if header.message_type != BINDING_REQUEST {
            return Err(RequestError::NotABindingRequest(header.message_type));
        }
        if usize::from(header.length) != attributes.len() {
            return Err(RequestError::WrongLength {
                declared: header.length,
                actual: attributes.len(),
            });
        }

        let mut names_tailscale = false;
        let mut last = None;
        for attribute in Attributes(attributes) {
            let attribute =
                attribute.map_err(|MalformedAttribute| RequestError::MalformedAttribute)?;
            names_tailscale |= attribute.kind == SOFTWARE && attribute.value == TAILNODE;
            last = Some(attribute);
        }
        if !names_tailscale {
            return Err(RequestError::MissingSoftware);
        }
        let Some(Attribute {
            kind: FINGERPRINT,
            value,
        }) = last
        else {
            return Err(RequestError::MissingFingerprint);
        };
        let Ok(claimed) = <[u8; 4]>::try_from(value) else {
            return Err(RequestError::MissingFingerprint);
        };
        let Some((covered, _)) = datagram.split_last_chunk::<FINGERPRINT_LEN>() else {
            return Err(RequestError::MissingFingerprint);
        };
        if u32::from_be_bytes(claimed) != fingerprint(covered) {
            return Err(RequestError::WrongFingerprint);
        }
        Ok(Self { txid: header.txid })
    }
}

/// A binding success response: the address a server saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingResponse {
    /// The request this answers.
    pub txid: TxId,
    /// Where the request came from, as the server saw it; never an IPv4 address in IPv6 clothes
    /// when it was parsed, and never written as one.
    pub mapped: SocketAddr,
}

impl BindingResponse {
    /// Writes the response to the front of `out` and returns its length in bytes: 32 for an IPv4
    /// address (wrapped in IPv6 or not), 44 for an IPv6 one. The rest of `out` is left as it was.
    ///
    /// The only attribute is XOR-MAPPED-ADDRESS, as in the reference: no FINGERPRINT.
    #[must_use]
    pub fn encode(&self, out: &mut [u8; MAX_RESPONSE_LEN]) -> usize {
        let port = self.mapped.port() ^ COOKIE_HIGH;
        out[20..22].copy_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
        out[26..28].copy_from_slice(&port.to_be_bytes());
        match self.mapped.ip().to_canonical() {
            IpAddr::V4(ip) => {
                out[..20].copy_from_slice(&header(BINDING_SUCCESS, 12, self.txid));
                out[22..26].copy_from_slice(&[0, 8, 0, FAMILY_IPV4]);
                out[28..32].copy_from_slice(&(ip.to_bits() ^ COOKIE).to_be_bytes());
                32
            }
            IpAddr::V6(ip) => {
                out[..20].copy_from_slice(&header(BINDING_SUCCESS, 24, self.txid));
                out[22..26].copy_from_slice(&[0, 20, 0, FAMILY_IPV6]);
                out[28..].copy_from_slice(&(ip.to_bits() ^ xor_pad(self.txid)).to_be_bytes());
                44
            }
        }
    }

    /// Reads a response of any STUN server, ours or not.
    ///
    /// Bytes after the length that the header declares are ignored. The address is the first
    /// XOR-MAPPED-ADDRESS, also under the number `0x8020` that old servers give it, else the first
    /// MAPPED-ADDRESS; an IPv4 address in IPv6 clothes is unwrapped. The caller compares `txid`
    /// with the request's.
    ///
    /// # Errors
    ///
    /// When `datagram` is no success response, or contains no readable address.
    pub fn parse(datagram: &[u8]) -> Result<Self, ResponseError> {
        let Some((header, attributes)) = Header::read(datagram) else {
            return Err(ResponseError::NotStun);
        };
        if header.message_type != BINDING_SUCCESS {
            return Err(ResponseError::NotASuccess(header.message_type));
        }
        let Some(attributes) = attributes.get(..usize::from(header.length)) else {
            return Err(ResponseError::Truncated {
                declared: header.length,
                actual: attributes.len(),
            });
        };

        let mut xored = None;
        let mut plain = None;
        for attribute in Attributes(attributes) {
            let attribute =
                attribute.map_err(|MalformedAttribute| ResponseError::MalformedAttribute)?;
            let (slot, port_pad, ip_pad) = match attribute.kind {
                XOR_MAPPED_ADDRESS | OLD_XOR_MAPPED_ADDRESS => {
                    (&mut xored, COOKIE_HIGH, xor_pad(header.txid))
                }
                MAPPED_ADDRESS => (&mut plain, 0, 0),
                _ => continue,
            };
            let Some(address) = read_address(attribute.value, port_pad, ip_pad) else {
                return Err(ResponseError::MalformedAttribute);
            };
            slot.get_or_insert(address);
        }
        match xored.or(plain) {
            Some(mapped) => Ok(Self {
                txid: header.txid,
                mapped,
            }),
            None => Err(ResponseError::MissingAddress),
        }
    }
}

/// The 20 bytes that start every STUN message.
struct Header {
    message_type: u16,
    length: u16,
    txid: TxId,
}

impl Header {
    /// Splits a STUN message into its header and what follows it; `None` if it is none.
    fn read(datagram: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let &[t0, t1, l0, l1, c0, c1, c2, c3, ref txid @ ..] = header;
        if t0 & 0xc0 != 0 || u32::from_be_bytes([c0, c1, c2, c3]) != COOKIE {
            return None;
        }
        let header = Self {
            message_type: u16::from_be_bytes([t0, t1]),
            length: u16::from_be_bytes([l0, l1]),
            txid: TxId(*txid),
        };
        Some((header, rest))
    }
}

/// A header as it stands on the wire; `length` counts the bytes of the attributes to come.
fn header(message_type: u16, length: u16, txid: TxId) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..2].copy_from_slice(&message_type.to_be_bytes());
    out[2..4].copy_from_slice(&length.to_be_bytes());
    out[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    out[8..].copy_from_slice(txid.as_bytes());
    out
}

/// Reads the value of an address attribute, removing the pads; surplus bytes mean nothing.
fn read_address(value: &[u8], port_pad: u16, ip_pad: u128) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], rest) = value.split_first_chunk::<4>()?;
    let ip = match family {
        FAMILY_IPV4 => {
            let [p0, p1, p2, p3, ..] = ip_pad.to_be_bytes();
            let ip = u32::from_be_bytes(*rest.first_chunk()?);
            IpAddr::V4((ip ^ u32::from_be_bytes([p0, p1, p2, p3])).into())
        }
        FAMILY_IPV6 => {
            let ip = u128::from_be_bytes(*rest.first_chunk()?);
            IpAddr::V6((ip ^ ip_pad).into())
        }
        _ => return None,
    };
    let port = u16::from_be_bytes([p0, p1]) ^ port_pad;
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// What IPv6 addresses are hidden by: cookie, then transaction id. IPv4 ones use its first 32 bits.
fn xor_pad(txid: TxId) -> u128 {
    txid.0.iter().fold(u128::from(COOKIE), |pad, byte| {
        (pad << 8) | u128::from(*byte)
    })
}

const HEADER_LEN: usize = 20;
const SOFTWARE_LEN: usize = attribute::HEADER_LEN + TAILNODE.len();
const FINGERPRINT_LEN: usize = attribute::HEADER_LEN + 4;

const COOKIE: u32 = 0x2112_a442;
const COOKIE_HIGH: u16 = 0x2112;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;

const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Early drafts numbered XOR-MAPPED-ADDRESS like this, and some servers still do.
const OLD_XOR_MAPPED_ADDRESS: u16 = 0x8020;
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;

const FAMILY_IPV4: u8 = 1;
const FAMILY_IPV6: u8 = 2;

/// The SOFTWARE by which relays know their clients.
const TAILNODE: &[u8; 8] = b"tailnode";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_prints_as_hex() {
        let txid = TxId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xfe, 0xff]);
        assert_eq!(txid.to_string(), "00010203040506070809feff");
        assert_eq!(format!("{txid:?}"), "TxId(00010203040506070809feff)");
    }

    #[test]
    fn a_wrapped_ipv4_address_is_ipv4() {
        let family = |text: &str| AddrFamily::of(text.parse().unwrap());
        assert_eq!(family("192.0.2.1"), AddrFamily::Ipv4);
        assert_eq!(family("::ffff:192.0.2.1"), AddrFamily::Ipv4);
        assert_eq!(family("2001:db8::1"), AddrFamily::Ipv6);
    }
}
