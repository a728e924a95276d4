//! Proxies in front of the relay, and what is believed of what they say about their clients.

use std::net::IpAddr;

use derp_server::{ForwardedHeader, ProxyProtocol, TrustedProxies};
use ipnet::IpNet;

use super::places::Place;
use super::reader::Reader;
use super::{Config, Listen, ListenAddr};
use crate::settings::{
    PROXY_PROTOCOL, PROXY_PROTOCOL_FROM, PUBLIC_PORT, Setting, TRUSTED_HEADER, TRUSTED_PROXIES,
};

/// What a list of trusted proxies says of Unix sockets.
const UNIX: &str = "unix";

/// Which connections begin with a PROXY header.
pub(super) fn proxy_protocol(reader: &mut Reader<'_>, listen: &Listen) -> ProxyProtocol {
    let is_required = reader.value(&PROXY_PROTOCOL, |text| match text {
        "off" => Ok(false),
        "required" => Ok(true),
        _ => Err("write off or required".to_owned()),
    });
    let from = networks(reader, &PROXY_PROTOCOL_FROM, false);
    match (is_required, from) {
        (false, None) => ProxyProtocol::Off,
        (false, Some(_)) => {
            reader.reject(
                &PROXY_PROTOCOL_FROM,
                "it means nothing without listen.proxy_protocol = \"required\"; set that too",
            );
            ProxyProtocol::Off
        }
        (true, Some((networks, _))) => ProxyProtocol::From(networks),
        (true, None) => {
            if let Some(place) = listen.places().find(is_open) {
                reader.warn(format!(
                    "whoever reaches {place} can claim any address by a PROXY header; name the \
                     proxies with --proxy-protocol-from, or listen on 127.0.0.1 or a Unix socket"
                ));
            }
            ProxyProtocol::FromAll
        }
    }
}

/// Whether others than this machine reach it.
fn is_open(place: &Place) -> bool {
    match place {
        Place::Unix(_) => false,
        Place::Tcp(address) => !is_loopback(*address),
    }
}

fn is_loopback(address: ListenAddr) -> bool {
    address.ip.is_some_and(|ip| ip.is_loopback())
}

/// The port that clients connect to, where it is not the relay's own.
pub(super) fn public_port(reader: &mut Reader<'_>, config: &Config) -> Option<u16> {
    let given: i64 = reader.int(&PUBLIC_PORT, 0..=65_535, "a port from 1 to 65535, or 0");
    let given = u16::try_from(given).ok().filter(|port| *port > 0);
    let is_hidden = match config.listen.main() {
        Place::Unix(_) => true,
        Place::Tcp(address) => config.is_told_where_clients_are() && is_loopback(address),
    };
    given.or_else(|| is_hidden.then_some(443))
}

/// Whoever puts a proxy in front of the relay easily forgets that no proxy passes UDP on.
pub(super) fn check_stun(reader: &mut Reader<'_>, config: &Config) {
    if let Some(stun) = config.stun
        && config.is_told_where_clients_are()
        && is_loopback(stun.address)
    {
        reader.warn(format!(
            "STUN listens on {} alone, where no client reaches it, and clients will take this \
             relay for slow; set stun.address = \"::\"",
            stun.address
        ));
    }
}

/// Whose HTTP headers are believed.
pub(super) fn trusted(reader: &mut Reader<'_>) -> TrustedProxies {
    let mut trusted = TrustedProxies::default();
    trusted.header = reader.value(&TRUSTED_HEADER, |text| {
        match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(ForwardedHeader::XForwardedFor),
            "x-real-ip" => Ok(ForwardedHeader::XRealIp),
            "forwarded" => Ok(ForwardedHeader::Forwarded),
            _ => Err("write x-forwarded-for, x-real-ip or forwarded".to_owned()),
        }
    });
    match networks(reader, &TRUSTED_PROXIES, true) {
        Some((networks, on_unix_sockets)) => {
            trusted.networks = networks;
            trusted.on_unix_sockets = on_unix_sockets;
        }
        None if reader.given(&TRUSTED_HEADER).is_some() => reader.reject(
            &TRUSTED_HEADER,
            "it means nothing without listen.trusted_proxies; set that too",
        ),
        None => {}
    }
    trusted
}

/// The networks, and whether Unix sockets are named among them; `None` where there are none.
fn networks(
    reader: &mut Reader<'_>,
    setting: &'static Setting,
    may_be_unix: bool,
) -> Option<(Vec<IpNet>, bool)> {
    reader.given(setting)?;
    let mut networks = Vec::new();
    let mut has_unix = false;
    for entry in reader.list(setting) {
        if may_be_unix && entry == UNIX {
            has_unix = true;
            continue;
        }
        let network = entry.parse::<IpNet>();
        match network.or_else(|_| entry.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => reader.reject(
                setting,
                format!("{entry:?} is not a network; write it like 10.0.0.0/8 or fd00::1"),
            ),
        }
    }
    Some((networks, has_unix))
}
