//! The flags: names, defaults, and a sentence for each.

use super::Flag;

/// The reference's.
pub const REFERENCE: &[Flag] = &[
    flag(
        "once",
        "",
        "false",
        "Run every probe once, print the results and exit: 0 all is good, 1 something is bad",
    ),
    flag(
        "derp-map",
        "URL",
        "https://login.tailscale.com/derpmap/default",
        "Where the DERP map is: https://, http:// or file:// with an absolute path; a path; local for this machine's tailscaled; or a relay, as HOST[:PORT][,sha256-raw:DIGITS][,stun:PORT]",
    ),
    flag(
        "region-code",
        "CODE",
        "",
        "Probe only the region with this code or number",
    ),
    flag(
        "mesh-psk-file",
        "FILE",
        "",
        "File with the relays' mesh key, 64 hexadecimal digits; with it, relays admit probes unverified",
    ),
    flag(
        "dev",
        "",
        "false",
        "Take the mesh key from the variable TAILSCALE_DERPER_MESH_KEY instead of a file",
    ),
    flag(
        "interval",
        "DURATION",
        "15s",
        "How often the map is fetched; this may take four fifths of it",
    ),
    flag(
        "tls-interval",
        "DURATION",
        "15s",
        "How often certificates are probed, each within four fifths of this; 0 for never",
    ),
    flag(
        "stun-interval",
        "DURATION",
        "15s",
        "How often STUN is probed, each within four fifths of this; 0 for never",
    ),
    flag(
        "mesh-interval",
        "DURATION",
        "15s",
        "How often relaying is probed, each within four fifths of this; 0 for never",
    ),
    flag(
        "bw-interval",
        "DURATION",
        "0s",
        "How often bandwidth is probed, each within four fifths of this; 0 for never",
    ),
    flag(
        "bw-probe-size-bytes",
        "BYTES",
        "1000000",
        "How much a bandwidth probe sends",
    ),
    flag(
        "spread",
        "",
        "true",
        "Delay each probe by a part of its interval, so that they do not all run at the same time",
    ),
    flag(
        "listen",
        "ADDRESS",
        ":8030",
        "Address of the pages: status, metrics, health; none with -once",
    ),
    flag(
        "bw-tun-ipv4-addr",
        "ADDRESS",
        "",
        "Not in this version: bandwidth probes through a TUN device",
    ),
    flag(
        "qd-packets-per-second",
        "NUMBER",
        "0",
        "How many packets a second a queuing delay probe sends; 0 for no such probes",
    ),
    flag(
        "qd-packet-timeout",
        "DURATION",
        "5s",
        "When a packet of a queuing delay probe counts as lost",
    ),
    flag(
        "secrets-url",
        "URL",
        "",
        "Not in this version: the mesh key from a secrets server",
    ),
    flag(
        "secrets-path-prefix",
        "PATH",
        "prod/derp",
        "Not in this version: the mesh key from a secrets server",
    ),
    flag(
        "secrets-cache-dir",
        "DIRECTORY",
        "",
        "Not in this version: the mesh key from a secrets server",
    ),
    flag("version", "", "false", "Print the version and exit"),
];

/// Those that the reference does not have.
pub const OURS: &[Flag] = &[
    flag(
        "format",
        "FORM",
        "text",
        "How -once prints results: text, json, junit, or nagios, with which bad is 2 and not 1",
    ),
    flag("json", "", "false", "Short for -format json"),
    flag(
        "history-file",
        "FILE",
        "",
        "Where the last day is kept over restarts; empty for nowhere",
    ),
    flag(
        "webhook",
        "URL",
        "",
        "Post a JSON document there when a probe turns bad, or good again",
    ),
    flag(
        "webhook-token-file",
        "FILE",
        "",
        "File with a token that posts are authorized by, as Bearer",
    ),
    flag(
        "runs-in-a-row",
        "NUMBER",
        "2",
        "After how many runs that say so a probe counts as bad, or as good again",
    ),
    flag(
        "keep-connections",
        "",
        "false",
        "Keep the connections of relaying probes open from one run to the next; handshakes are \
         probed every 5m then, unless -tls-interval is given. Nothing with -once",
    ),
    flag(
        "all",
        "",
        "false",
        "Probe HTTP, WebSocket, info and convergence too, every 15s where they have no interval",
    ),
    flag(
        "http-interval",
        "DURATION",
        "0s",
        "How often the pages are probed that clients measure with; 0 for never",
    ),
    flag(
        "websocket-interval",
        "DURATION",
        "0s",
        "How often relaying in a WebSocket is probed; 0 for never",
    ),
    flag(
        "info-interval",
        "DURATION",
        "0s",
        "How often the relay's key is looked at, and what it says of itself; 0 for never",
    ),
    flag(
        "convergence-interval",
        "DURATION",
        "0s",
        "How often it is measured when relays of a region know each other's clients; 0 for never",
    ),
    flag(
        "qd-interval",
        "DURATION",
        "15s",
        "How often queuing delay is probed, each within four fifths of this",
    ),
    flag(
        "expect-refused",
        "NAMES",
        "",
        "Relays that must refuse strangers: all, or nodes and regions with commas between them",
    ),
    flag(
        "admission-interval",
        "DURATION",
        "15s",
        "How often it is probed that strangers are refused; 0 for never",
    ),
    flag(
        "server-key",
        "KEYS",
        "",
        "The key that the relays must have: nodekey:DIGITS, or NODE=nodekey:DIGITS with commas",
    ),
];

const fn flag(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        value,
        default,
        help,
    }
}
