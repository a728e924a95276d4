//! STUN datagrams, as server and as client.

use std::net::SocketAddr;

use derp_stun::{
    AddrFamily, BindingRequest, BindingResponse, MAX_RESPONSE_LEN, Outcome, fingerprint, is_stun,
    respond,
};

/// A datagram from anybody.
///
/// The first byte says from what address, and whether the datagram ends in a fingerprint that is
/// right: no fuzzer guesses a checksum. The rest is the datagram.
pub fn stun_message(data: &[u8]) {
    let Some((&selector, datagram)) = data.split_first() else {
        return;
    };
    let mut datagram = datagram.to_vec();
    if selector & 4 != 0 {
        // Type and length of the attribute are those of the datagram, or not, as it likes.
        let value = datagram
            .len()
            .checked_sub(4)
            .and_then(|end| datagram.get(..end));
        let value = value.map_or(0, fingerprint);
        datagram.extend_from_slice(&value.to_be_bytes());
    }
    as_server(&datagram, FROM[usize::from(selector & 3)]);
    as_client(&datagram);
}

fn as_server(datagram: &[u8], from: SocketAddr) {
    let untouched = [0xee; MAX_RESPONSE_LEN];
    let mut out = untouched;
    let Outcome::Success { family, len } = respond(datagram, from, &mut out) else {
        assert_eq!(out, untouched, "nothing is written where nothing is sent");
        return;
    };
    assert!(is_stun(datagram));
    assert_eq!(family, AddrFamily::of(from.ip()));
    assert!(
        len <= datagram.len() + 4,
        "an answer is hardly longer than its question"
    );
    assert_eq!(out[len..], untouched[len..]);

    let response = BindingResponse::parse(&out[..len]).expect("an answer is a response");
    let mapped = SocketAddr::new(from.ip().to_canonical(), from.port());
    assert_eq!(
        (&response.txid.as_bytes()[..], response.mapped),
        (&datagram[8..20], mapped)
    );
    assert!(
        BindingRequest::parse(&out[..len]).is_err(),
        "an answer is never answered"
    );
}

fn as_client(datagram: &[u8]) {
    let Ok(response) = BindingResponse::parse(datagram) else {
        return;
    };
    assert!(is_stun(datagram));
    assert_eq!(response.mapped.ip(), response.mapped.ip().to_canonical());
    let mut out = [0; MAX_RESPONSE_LEN];
    let len = response.encode(&mut out);
    assert_eq!(BindingResponse::parse(&out[..len]), Ok(response));
}

const FROM: [SocketAddr; 4] = {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let wrapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
    [
        SocketAddr::new(v4, 32853),
        SocketAddr::new(v6, 32853),
        SocketAddr::new(wrapped, 32853),
        SocketAddr::new(v4, 0),
    ]
};
