//! The page for people who open the relay's address in a browser.

use std::str::FromStr;

use http::HeaderValue;
use thiserror::Error;

/// What is served at `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Home {
    /// A page that says what this is.
    #[default]
    Default,
    /// An empty page.
    Blank,
    /// A redirect to another page.
    Redirect(HeaderValue),
}

/// Neither empty nor `blank` nor a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("home page must be empty, `blank`, or a URL that begins with http:// or https://")]
pub struct HomeError;

impl FromStr for Home {
    type Err = HomeError;

    /// Reads the forms of derper's `-home`.
    fn from_str(text: &str) -> Result<Self, HomeError> {
        match text {
            "" => Ok(Self::Default),
            "blank" => Ok(Self::Blank),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                HeaderValue::from_str(url)
                    .map(Self::Redirect)
                    .map_err(|_| HomeError)
            }
            _ => Err(HomeError),
        }
    }
}

/// What the default page shows.
pub(super) struct HomePage<'a> {
    pub(super) hostname: &'a str,
    pub(super) is_derp_enabled: bool,
    pub(super) has_debug_link: bool,
}

impl HomePage<'_> {
    pub(super) fn render(&self) -> String {
        let mut page = String::from(
            "<!DOCTYPE html>\n\
             <html lang=\"en\">\n\
             <head><meta charset=\"utf-8\"><title>DERP server</title></head>\n\
             <body>\n\
             <h1>DERP server</h1>\n\
             <p>Here runs a DERP server: a relay by which \
             <a href=\"https://tailscale.com/\">Tailscale</a> clients reach one another where no \
             direct path is to be had.</p>\n\
             <p>What passes through it is encrypted between the clients; the relay has no key to \
             it.</p>\n",
        );
        if !self.is_derp_enabled {
            page.push_str("<p>Status: disabled</p>\n");
        }
        if is_tailscale_relay(self.hostname) {
            page.push_str(TAILSCALE_CONTACT);
        }
        if self.has_debug_link {
            page.push_str("<p><a href=\"/debug/\">Debug pages</a></p>\n");
        }
        page.push_str("</body>\n</html>\n");
        page
    }
}

/// Whom to turn to about a relay that Tailscale runs (`cmd/derper/derper.go`).
const TAILSCALE_CONTACT: &str = "\
    <p>Report abuse of this relay to \
    <a href=\"mailto:security@tailscale.com\">security@tailscale.com</a>.</p>\n\
    <ul>\n\
    <li><a href=\"https://tailscale.com/security-policies\">Security policies</a></li>\n\
    <li><a href=\"https://tailscale.com/tailscale-aup\">Acceptable use policy</a></li>\n\
    </ul>\n";

/// Whether the name is `derp*.tailscale.com`.
fn is_tailscale_relay(hostname: &str) -> bool {
    let hostname = hostname.strip_suffix('.').unwrap_or(hostname);
    hostname
        .strip_suffix(".tailscale.com")
        .and_then(|label| label.strip_prefix("derp"))
        .is_some_and(|rest| !rest.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(hostname: &str, is_derp_enabled: bool, has_debug_link: bool) -> String {
        HomePage {
            hostname,
            is_derp_enabled,
            has_debug_link,
        }
        .render()
    }

    #[test]
    fn each_part_is_shown_only_where_it_holds() {
        let full = page("derp1.tailscale.com", false, true);
        let plain = page("relay.example.com", true, false);
        for part in [
            "security@tailscale.com",
            "https://tailscale.com/security-policies",
            "https://tailscale.com/tailscale-aup",
            "Status: disabled",
            "href=\"/debug/\"",
        ] {
            assert!(full.contains(part), "{part} is missing");
            assert!(!plain.contains(part), "{part} is too much");
        }
    }

    #[test]
    fn tailscale_relays_are_known_by_their_name() {
        for name in ["derp", "derp1", "derp1b", "derp02", "derp-nyc", "derpfoo"] {
            assert!(
                is_tailscale_relay(&format!("{name}.tailscale.com")),
                "{name}"
            );
            assert!(
                is_tailscale_relay(&format!("{name}.tailscale.com.")),
                "{name}"
            );
        }
        for name in [
            "derp02.bar.tailscale.com",
            "example.net",
            "tailscale.com",
            "",
            "xderp.tailscale.com",
        ] {
            assert!(!is_tailscale_relay(name), "{name}");
        }
    }

    #[test]
    fn the_option_has_three_forms() {
        assert_eq!("".parse(), Ok(Home::Default));
        assert_eq!("blank".parse(), Ok(Home::Blank));
        let url = HeaderValue::from_static("https://example.com/x");
        assert_eq!("https://example.com/x".parse(), Ok(Home::Redirect(url)));
        for bad in [
            "Blank",
            "example.com",
            "ftp://example.com",
            "http://a\r\nX: y",
        ] {
            assert_eq!(bad.parse::<Home>(), Err(HomeError), "{bad}");
        }
    }
}
