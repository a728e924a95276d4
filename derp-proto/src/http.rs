//! Names on the HTTP side of a DERP connection (`derp/derphttp`, `derp/derpserver/handler.go`).

/// The path of the upgrade. Exactly this; `/derp/` is another path.
pub const DERP_PATH: &str = "/derp";
/// Answers 200 to anybody, for latency measurement.
pub const PROBE_PATH: &str = "/derp/probe";
/// The older name of [`PROBE_PATH`].
pub const LATENCY_CHECK_PATH: &str = "/derp/latency-check";
/// Answers 204, for captive portal detection.
pub const GENERATE_204_PATH: &str = "/generate_204";
/// Addresses of well-known names, as JSON.
pub const BOOTSTRAP_DNS_PATH: &str = "/bootstrap-dns";

/// The value of the `Upgrade` header, compared without regard to case.
pub const UPGRADE_DERP: &str = "DERP";
/// The `Upgrade` header of a WebSocket client.
pub const UPGRADE_WEBSOCKET: &str = "websocket";
/// The WebSocket subprotocol.
pub const WEBSOCKET_PROTOCOL: &str = "derp";

/// Asks the server to send frames at once, without an HTTP response. Only the value `1` counts.
pub const FAST_START_HEADER: &str = "Derp-Fast-Start";
/// Names the node of the region that the client would rather have reached.
pub const IDEAL_NODE_HEADER: &str = "Ideal-Node";
/// In the 101 response: the protocol version.
pub const VERSION_HEADER: &str = "Derp-Version";
/// In the 101 response: the server's key as 64 digits.
pub const PUBLIC_KEY_HEADER: &str = "Derp-Public-Key";
/// In a request for [`GENERATE_204_PATH`]: what the response must repeat.
pub const CHALLENGE_HEADER: &str = "X-Tailscale-Challenge";
/// In the response to it: `response ` and the challenge.
pub const RESPONSE_HEADER: &str = "X-Tailscale-Response";

/// How the common name of the meta certificate begins; 64 digits of the server's key follow.
///
/// The server appends this self-signed certificate to its chain (`derp/derpconst`). A TLS 1.3
/// client thus learns the key in the handshake and saves a round trip. Its serial number is the
/// protocol version.
pub const META_CERT_NAME_PREFIX: &str = "derpkey";

/// How a `CertName` of a DERP map node begins that pins a certificate: the lowercase SHA-256 of
/// its DER form follows (`net/tlsdial`).
pub const CERT_PIN_PREFIX: &str = "sha256-raw:";

/// Whether `challenge` may be repeated in a [`RESPONSE_HEADER`]: 1 to 64 of `[A-Za-z0-9.\-_:]`.
#[must_use]
pub fn is_valid_challenge(challenge: &[u8]) -> bool {
    (1..=64).contains(&challenge.len())
        && challenge
            .iter()
            .all(|&b| b.is_ascii_alphanumeric() || b".-_:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_short_and_plain() {
        for good in ["input", "ts_derp99b.tailscale.com", "a", &"x".repeat(64)] {
            assert!(is_valid_challenge(good.as_bytes()), "{good}");
        }
        for bad in ["", "foo\0bar", "foo bar", "a\r\nb", &"x".repeat(65)] {
            assert!(!is_valid_challenge(bad.as_bytes()), "{bad}");
        }
    }
}
