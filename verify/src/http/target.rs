//! Where an HTTP server is: `http://`, `https://` and `unix://` URLs.

use std::fmt;
use std::path::PathBuf;

use data_encoding::BASE64;
use http::Uri;
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// A URL, taken apart. Its `Display` leaves out all that may be secret: user and query.
#[derive(Clone)]
pub(crate) struct Target {
    pub(super) place: Place,
    /// As it stands in the Host header.
    pub(super) host_header: String,
    /// The path and query of the URL, never empty.
    pub(super) path: String,
    /// The value of an Authorization header, where the URL names a user as Go's client allows.
    pub(super) authorization: Option<String>,
}

/// What to connect to.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp {
        host: String,
        port: u16,
        is_tls: bool,
    },
    Unix(PathBuf),
}

/// A URL that cannot be asked. It is not repeated here, for it may hold a password.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// It is no URL at all.
    #[error("not a URL; allowed are http://HOST/…, https://HOST/… and unix:///SOCKET[:/PATH]")]
    Malformed,
    /// Another scheme.
    #[error("not an http, https or unix URL")]
    Scheme,
    /// It names no host.
    #[error("a URL without a host")]
    NoHost,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, TargetError> {
        if let Some(rest) = url.strip_prefix("unix://") {
            return Self::parse_unix(rest);
        }
        // What follows `#` is never sent.
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        let uri: Uri = url.parse().map_err(|_| TargetError::Malformed)?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(TargetError::Scheme),
            None => return Err(TargetError::Malformed),
        };
        let authority = uri.authority().ok_or(TargetError::NoHost)?;
        let host = authority.host();
        let (user, named) = match authority.as_str().rsplit_once('@') {
            Some((user, named)) => (Some(user), named),
            None => (None, authority.as_str()),
        };
        if host.is_empty() {
            return Err(TargetError::NoHost);
        }
        let port = match named[host.len().min(named.len())..].strip_prefix(':') {
            None | Some("") => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            Some(digits) => digits.parse().map_err(|_| TargetError::Malformed)?,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            place: Place::Tcp {
                host: bare.to_owned(),
                port,
                is_tls,
            },
            host_header: named.strip_suffix(':').unwrap_or(named).to_owned(),
            path: match uri.path_and_query().map(|path| path.as_str()) {
                None | Some("") => "/".to_owned(),
                Some(path) if path.starts_with('?') => format!("/{path}"),
                Some(path) => path.to_owned(),
            },
            authorization: user.map(basic),
        })
    }

    /// A socket's path, and after a colon what stands in the request line.
    fn parse_unix(rest: &str) -> Result<Self, TargetError> {
        let (socket, path) = match rest.split_once(":/") {
            Some((socket, path)) => (socket, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        if !socket.starts_with('/') || path.parse::<Uri>().is_err() {
            return Err(TargetError::Malformed);
        }
        Ok(Self {
            place: Place::Unix(socket.into()),
            host_header: "localhost".to_owned(),
            path,
            authorization: None,
        })
    }

    /// The same server, asked for `path`.
    #[cfg(feature = "headscale")]
    pub(super) fn with_path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        match &self.place {
            Place::Tcp { is_tls, .. } => {
                let scheme = if *is_tls { "https" } else { "http" };
                write!(f, "{scheme}://{}{path}", self.host_header)
            }
            Place::Unix(socket) => write!(f, "unix://{}:{path}", socket.display()),
        }
    }
}

/// The Authorization header for the user part of a URL.
fn basic(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain: Vec<u8> = percent_decode_str(name).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    format!("Basic {}", BASE64.encode(&plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<(String, u16, bool, String, String), TargetError> {
        let target = Target::parse(url)?;
        let Place::Tcp { host, port, is_tls } = target.place else {
            panic!("{url} is a socket")
        };
        Ok((host, port, is_tls, target.host_header, target.path))
    }

    #[test]
    fn urls_are_taken_apart_as_go_does() {
        let tcp = |host: &str, port, is_tls, header: &str, path: &str| {
            Ok((
                host.to_owned(),
                port,
                is_tls,
                header.to_owned(),
                path.to_owned(),
            ))
        };
        let table = [
            (
                "http://a.example",
                tcp("a.example", 80, false, "a.example", "/"),
            ),
            (
                "https://a.example:/v",
                tcp("a.example", 443, true, "a.example", "/v"),
            ),
            (
                "https://a.example:8443/v?x=1#y",
                tcp("a.example", 8443, true, "a.example:8443", "/v?x=1"),
            ),
            (
                "http://a.example?x=1",
                tcp("a.example", 80, false, "a.example", "/?x=1"),
            ),
            (
                "http://[2001:db8::1]:81/",
                tcp("2001:db8::1", 81, false, "[2001:db8::1]:81", "/"),
            ),
            ("ftp://a.example/", Err(TargetError::Scheme)),
            ("a.example/verify", Err(TargetError::Malformed)),
            ("/verify", Err(TargetError::Malformed)),
            ("http://", Err(TargetError::Malformed)),
            ("http://a b/", Err(TargetError::Malformed)),
            ("http://a\r\nX: y/", Err(TargetError::Malformed)),
            ("http://a:99999/", Err(TargetError::Malformed)),
            ("unix://relative", Err(TargetError::Malformed)),
            ("", Err(TargetError::Malformed)),
        ];
        for (url, expected) in table {
            assert_eq!(read(url), expected, "{url:?}");
        }
    }

    #[test]
    fn a_socket_may_have_a_path_to_ask_for() {
        for (url, shown) in [
            ("unix:///run/v.sock", "unix:///run/v.sock:/"),
            (
                "unix:///run/v.sock:/verify?secret=1",
                "unix:///run/v.sock:/verify",
            ),
        ] {
            assert_eq!(Target::parse(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_user_in_the_url_is_sent_and_never_shown() {
        let target = Target::parse("https://us%20er:p%40ss@a.example/v?token=t").unwrap();
        assert_eq!(
            target.authorization.as_deref(),
            Some("Basic dXMgZXI6cEBzcw==")
        );
        assert_eq!(target.to_string(), "https://a.example/v");
    }
}
