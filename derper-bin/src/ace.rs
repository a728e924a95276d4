//! Where CONNECT requests may lead (`cmd/derper/ace.go`): to Tailscale's control servers, for nodes
//! whose network lets them reach a relay and not those.
//!
//! The rule is the reference's. Carrying the connection is the server's.

use derp_server::Connect;

/// Every host below this, and no other.
const BELOW: &str = ".tailscale.com";
/// No relays: a relay must not be led to itself.
const NOT: &str = "derp";

/// What becomes of a request to connect to `target`, by a relay that is a proxy.
#[must_use]
pub fn connect(target: &str) -> Connect {
    let Some((host, port)) = target.rsplit_once(':') else {
        return Connect::Refused;
    };
    let is_name = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let may =
        is_name && matches!(port, "443" | "80") && host.ends_with(BELOW) && !host.contains(NOT);
    if may {
        Connect::To(target.to_owned())
    } else {
        Connect::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tailscales_control_servers_are_led_to() {
        for target in [
            "controlplane.tailscale.com:443",
            "controlplane.tailscale.com:80",
            "login.tailscale.com:443",
            "log.tailscale.com:443",
        ] {
            assert_eq!(connect(target), Connect::To(target.to_owned()));
        }
        for target in [
            "",
            "controlplane.tailscale.com",
            "controlplane.tailscale.com:8080",
            "controlplane.tailscale.com:0443",
            "tailscale.com:443",
            "eviltailscale.com:443",
            "controlplane.tailscale.com.evil.example:443",
            "controlplane.tailscale.com.:443",
            "derp1.tailscale.com:443",
            "login.derp.tailscale.com:443",
            "127.0.0.1:80",
            "[::1]:80",
            "127.0.0.1#.tailscale.com:80",
            "127.0.0.1:1@x.tailscale.com:443",
        ] {
            assert_eq!(connect(target), Connect::Refused, "{target}");
        }
    }
}
