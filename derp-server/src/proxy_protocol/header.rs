//! The header itself, in both versions of the PROXY protocol (haproxy's `proxy-protocol.txt`).
//!
//! Pure: bytes in, a decision out. [`read`] never asks for more bytes than certainly belong to the
//! header, so that whoever reads a socket by what it asks for leaves the next byte, which may begin
//! a TLS record, where it is. What the header says beside addresses (TLVs) is checked for its
//! form and its checksum, and otherwise ignored: nothing here decides anything by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest header of version 1, with the line's end (section 2.1).
pub(crate) const MAX_V1_LEN: usize = 107;
/// The longest header of version 2 that is read: what fits into the smallest segment that every
/// network passes on, which is what senders keep to.
pub(crate) const MAX_V2_LEN: usize = 536;

const V1_START: &[u8] = b"PROXY ";
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const V2_FIXED_LEN: usize = 16;
const TLV_CRC32C: u8 = 3;

/// What a header says of the connection behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// The client's own address.
    Client(SocketAddr),
    /// A client's connection, of which the proxy tells no address, or none of the internet's.
    Unknown,
    /// The proxy's own connection, such as a health check.
    Local,
}

/// How far a header has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many more bytes, at least one, belong to the header for sure.
    Needs(usize),
    /// The bytes are a header, all of them.
    Complete(Header),
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// The connection begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// It begins like a header and is none.
    #[error("malformed PROXY header")]
    Malformed,
    /// More than 107 bytes in version 1, or 536 in version 2.
    #[error("PROXY header too long")]
    TooLong,
    /// The header has a checksum, and it is wrong.
    #[error("PROXY header with a wrong checksum")]
    Checksum,
    /// The header did not come in time.
    #[error("no PROXY header in time")]
    TooSlow,
    /// The connection ended before the header did.
    #[error("the connection ended before its PROXY header")]
    Ended,
}

/// Reads a header of which `bytes` have come, and nothing behind it.
///
/// # Errors
/// Says what is wrong, as early as that is certain.
pub(crate) fn read(bytes: &[u8]) -> Result<Progress, ProxyHeaderError> {
    if bytes.is_empty() {
        // Both versions have as many.
        return Ok(Progress::Needs(V2_SIGNATURE.len()));
    }
    if is_front_of(bytes, &V2_SIGNATURE) {
        return read_v2(bytes);
    }
    if is_front_of(bytes, V1_START) {
        return read_v1(bytes);
    }
    Err(ProxyHeaderError::Missing)
}

/// Whether `bytes` begin with `start`, as far as either goes.
fn is_front_of(bytes: &[u8], start: &[u8]) -> bool {
    bytes
        .iter()
        .zip(start)
        .all(|(byte, expected)| byte == expected)
}

fn read_v1(bytes: &[u8]) -> Result<Progress, ProxyHeaderError> {
    // The shortest lines there are; from then on a byte that is no CR is followed by two at least.
    let shortest = match bytes.get(..11) {
        Some(b"PROXY TCP4 ") => b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".len(),
        Some(b"PROXY TCP6 ") => b"PROXY TCP6 :: :: 0 0\r\n".len(),
        Some(_) => b"PROXY UNKNOWN\r\n".len(),
        // So that one more look tells which it is.
        None => 11,
    };
    // No line has its CR before its shortest form has; looked for in all of it, so that it does not
    // matter in which pieces the line came.
    if bytes.iter().take(shortest - 2).any(|&byte| byte == b'\r') {
        return Err(ProxyHeaderError::Malformed);
    }
    // Nor does one end in time that has neither its CR nor its end by now; looked at where it is
    // certain, for the same reason.
    if let Some(line) = bytes.get(..MAX_V1_LEN - 1)
        && !line.contains(&b'\n')
        && !line.ends_with(b"\r")
    {
        return Err(ProxyHeaderError::TooLong);
    }
    if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        if end + 1 != bytes.len() {
            return Err(ProxyHeaderError::Malformed);
        }
        let line = bytes[..end].strip_suffix(b"\r");
        return line.ok_or(ProxyHeaderError::Malformed).and_then(read_line);
    }
    let is_at_its_end = bytes.ends_with(b"\r");
    let more = shortest
        .saturating_sub(bytes.len())
        .max(if is_at_its_end { 1 } else { 2 });
    if bytes.len() + more > MAX_V1_LEN {
        return Err(ProxyHeaderError::TooLong);
    }
    Ok(Progress::Needs(more))
}

/// Reads a line of version 1 without its end.
fn read_line(line: &[u8]) -> Result<Progress, ProxyHeaderError> {
    if line.len() + 2 > MAX_V1_LEN {
        return Err(ProxyHeaderError::TooLong);
    }
    // Whatever stands behind UNKNOWN is to be ignored, be it text or not.
    if line == b"PROXY UNKNOWN" || line.starts_with(b"PROXY UNKNOWN ") {
        return Ok(Progress::Complete(Header::Unknown));
    }
    let line = std::str::from_utf8(line).map_err(|_| ProxyHeaderError::Malformed)?;
    addresses_of(line)
        .map(|source| Progress::Complete(Header::Client(source)))
        .ok_or(ProxyHeaderError::Malformed)
}

fn addresses_of(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ').skip(1);
    let mut next = || words.next();
    let (family, source, destination) = (next()?, next()?, next()?);
    let (source_port, _) = (port(next()?)?, port(next()?)?);
    if next().is_some() {
        return None;
    }
    let source = match family {
        "TCP4" => {
            let _destination: Ipv4Addr = destination.parse().ok()?;
            IpAddr::V4(source.parse().ok()?)
        }
        "TCP6" => {
            let _destination: Ipv6Addr = destination.parse().ok()?;
            IpAddr::V6(source.parse().ok()?)
        }
        _ => return None,
    };
    Some(SocketAddr::new(source.to_canonical(), source_port))
}

/// A port as the specification has it: digits, no leading zero.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    if !is_plain || has_leading_zero {
        return None;
    }
    text.parse().ok()
}

fn read_v2(bytes: &[u8]) -> Result<Progress, ProxyHeaderError> {
    let is_command_known = |byte: &u8| matches!(byte, 0x20 | 0x21);
    if !bytes.get(12).is_none_or(is_command_known) {
        return Err(ProxyHeaderError::Malformed);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_LEN>() else {
        return Ok(Progress::Needs(V2_FIXED_LEN - bytes.len()));
    };
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if V2_FIXED_LEN + len > MAX_V2_LEN {
        return Err(ProxyHeaderError::TooLong);
    }
    let (is_proxied, family) = (fixed[12] == 0x21, fixed[13]);
    let addresses_len = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        // Section 2.2: of a LOCAL connection everything behind the command is ignored.
        _ if !is_proxied => 0,
        _ => return Err(ProxyHeaderError::Malformed),
    };
    if is_proxied && len < addresses_len {
        return Err(ProxyHeaderError::Malformed);
    }
    match rest.len().checked_sub(len) {
        None => return Ok(Progress::Needs(len - rest.len())),
        Some(0) => {}
        Some(_) => return Err(ProxyHeaderError::Malformed),
    }
    if !is_proxied {
        return Ok(Progress::Complete(Header::Local));
    }
    let (addresses, tlvs) = rest.split_at(addresses_len);
    // Without a known family the rest has no known form.
    if family != 0x00 {
        check_tlvs(bytes, tlvs)?;
    }
    let header = client_of(family, addresses).map_or(Header::Unknown, Header::Client);
    Ok(Progress::Complete(header))
}

/// The source in the addresses of version 2, which are as long as `family` wants them.
fn client_of(family: u8, addresses: &[u8]) -> Option<SocketAddr> {
    let (ip, ports) = match family {
        0x11 => {
            let (ip, rest) = addresses.split_first_chunk::<4>()?;
            (IpAddr::from(*ip), rest.get(4..)?)
        }
        0x21 => {
            let (ip, rest) = addresses.split_first_chunk::<16>()?;
            (IpAddr::from(*ip), rest.get(16..)?)
        }
        // A datagram's or a Unix socket's: none that a client of a relay can have.
        _ => return None,
    };
    let port = u16::from_be_bytes(*ports.first_chunk()?);
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// Checks the form of the TLVs, and the checksum where there is one (section 2.2.4).
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), ProxyHeaderError> {
    while !tlvs.is_empty() {
        let at = header.len() - tlvs.len();
        let Some((&[kind, high, low], rest)) = tlvs.split_first_chunk::<3>() else {
            return Err(ProxyHeaderError::Malformed);
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = rest.split_at_checked(len) else {
            return Err(ProxyHeaderError::Malformed);
        };
        if kind == TLV_CRC32C {
            let Ok(claimed) = <[u8; 4]>::try_from(value) else {
                return Err(ProxyHeaderError::Malformed);
            };
            let value_at = at + 3;
            if crc32c(header, value_at..value_at + 4) != u32::from_be_bytes(claimed) {
                return Err(ProxyHeaderError::Checksum);
            }
        }
        tlvs = rest;
    }
    Ok(())
}

/// CRC-32C (RFC 9260, appendix A), with the bytes in `blank` taken for zeros. Headers are rare and
/// short, so there is no table.
pub(crate) fn crc32c(bytes: &[u8], blank: std::ops::Range<usize>) -> u32 {
    let crc = bytes.iter().enumerate().fold(!0u32, |crc, (at, &byte)| {
        let byte = if blank.contains(&at) { 0 } else { byte };
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1))
        })
    });
    !crc
}

#[cfg(test)]
mod tests;
