//! Where the DERP map is, and getting it from there.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use derp_proto::DerpMap;
use http::Uri;
use thiserror::Error;

use crate::deadline::{Deadline, TimedOut};
use crate::sources::headscale::{self, YamlError};
use crate::sources::local::{self, LocalError};
use crate::sources::one::{OneRelay, OneRelayError};
use crate::web::{Web, WebError};

/// The longest map that is read, in bytes; the longest in use has some dozens of KiB.
pub const LONGEST_MAP: usize = 4 << 20;

/// Where a map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On a web server.
    Web(Uri),
    /// In a file: JSON as everywhere, or YAML as Headscale has it.
    File(PathBuf),
    /// At the tailscaled that listens on this socket.
    Local(PathBuf),
    /// Nowhere: it is one relay.
    One(Box<OneRelay>),
}

/// Text that says nowhere where a map could be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It looks like a URL, and is none of a map.
    #[error("{0:?} is none of https://HOST/PATH, http://HOST/PATH and file:///PATH")]
    Url(String),
    /// It looks like a relay, and is none.
    #[error(transparent)]
    One(#[from] OneRelayError),
}

/// A map that could not be got.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MapError {
    /// It could not be fetched.
    #[error("cannot fetch the DERP map")]
    Web(#[from] WebError),
    /// It could not be read.
    #[error("cannot read the DERP map in {0}")]
    File(PathBuf, #[source] io::Error),
    /// The file is longer than any map.
    #[error("{0} has more than {LONGEST_MAP} bytes, which no DERP map has")]
    TooLong(PathBuf),
    /// More regions and nodes than any map has.
    #[error("what should be the DERP map has more than {MOST_OBJECTS} JSON objects in it")]
    TooManyObjects,
    /// It is something else.
    #[error(
        "what should be the DERP map is none, which would be JSON like {{\"Regions\":{{\"1\":…}}}}, or \
             YAML as Headscale's where the name ends in .yaml"
    )]
    Json(#[source] serde_json::Error),
    /// It should be Headscale's, and is not.
    #[error("what should be a DERP map as Headscale has it is none")]
    Yaml(#[from] YamlError),
    /// The tailscaled of this machine does not tell it.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// It took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

impl MapError {
    /// Whether it is the way there that failed, and not what came from there: then a map that was
    /// got a while ago is still the best that there is.
    #[must_use]
    pub const fn is_transport(&self) -> bool {
        match self {
            Self::Web(err) => err.is_transport(),
            Self::Local(err) => err.is_transport(),
            Self::TimedOut(_) => true,
            Self::File(..) | Self::TooLong(_) | Self::TooManyObjects => false,
            Self::Json(_) | Self::Yaml(_) => false,
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    /// Reads `local`, `local:/PATH/OF/A/SOCKET`, a URL, a path with a slash at its front or with
    /// one of the endings of maps' files, or else a relay.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        if text == "local" {
            return Ok(Self::Local(local::DEFAULT_SOCKET.into()));
        }
        if let Some(socket) = text.strip_prefix("local:") {
            return Ok(Self::Local(socket.into()));
        }
        let bad = || SourceError::Url(text.to_owned());
        if let Some(path) = text.strip_prefix("file://") {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            let path = percent_decoded(path).ok_or_else(bad)?;
            return if path.starts_with('/') {
                Ok(Self::File(path.into()))
            } else {
                Err(bad())
            };
        }
        if !text.contains("://") && !text.is_empty() {
            let is_path = text.starts_with(['/', '.'])
                || [".json", ".yaml", ".yml"]
                    .iter()
                    .any(|end| text.ends_with(end));
            return if is_path {
                Ok(Self::File(text.into()))
            } else {
                Ok(Self::One(Box::new(text.parse()?)))
            };
        }
        let url: Uri = text.parse().map_err(|_| bad())?;
        let host = url
            .authority()
            .filter(|authority| !authority.as_str().contains('@'));
        match (url.scheme_str(), host) {
            (Some("http" | "https"), Some(_)) => Ok(Self::Web(url)),
            _ => Err(bad()),
        }
    }
}

/// Where it is, for people who look at pages: without the query of a URL, in which secrets may be.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => {
                let (scheme, host) = (url.scheme_str(), url.authority());
                let host = host.map_or("", |host| host.as_str());
                write!(f, "{}://{host}{}", scheme.unwrap_or("http"), url.path())
            }
            Self::File(path) => path.display().fmt(f),
            Self::Local(_) => f.write_str("this machine's tailscaled"),
            Self::One(_) => f.write_str("one relay"),
        }
    }
}

impl Source {
    /// Gets the map.
    ///
    /// # Errors
    /// [`MapError`], by fault.
    pub async fn load(&self, web: &Web, deadline: Deadline) -> Result<DerpMap, MapError> {
        match self {
            Self::Web(url) => parse(
                &web.get(url, LONGEST_MAP, deadline).await?,
                is_yaml(url.path()),
            ),
            Self::Local(socket) => parse(&local::get(socket, LONGEST_MAP, deadline).await?, false),
            Self::One(relay) => {
                let doing = "looking up the relay's name";
                Ok(deadline.keep(doing, relay.as_map()).await?)
            }
            Self::File(path) => {
                let own = path.clone();
                // Whoever names a pipe that nobody writes to waits for the deadline, not for ever.
                let reading = tokio::task::spawn_blocking(move || read(own));
                match deadline.keep("reading the map's file", reading).await? {
                    Ok(text) => parse(&text?, path.to_str().is_some_and(is_yaml)),
                    Err(gone) => Err(MapError::File(path.clone(), io::Error::other(gone))),
                }
            }
        }
    }
}

/// Whether a path's ending says that the file is Headscale's.
fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml") || path.ends_with(".yml")
}

fn read(path: PathBuf) -> Result<Vec<u8>, MapError> {
    let mut text = Vec::new();
    let file = std::fs::File::open(&path);
    let read = file.and_then(|file| file.take(LONGEST_MAP as u64 + 1).read_to_end(&mut text));
    match read {
        Ok(_) if text.len() > LONGEST_MAP => Err(MapError::TooLong(path)),
        Ok(_) => Ok(text),
        Err(err) => Err(MapError::File(path, err)),
    }
}

fn parse(text: &[u8], is_yaml: bool) -> Result<DerpMap, MapError> {
    // Every JSON document is YAML, and this one is Go's.
    let is_json = text.trim_ascii_start().starts_with(b"{");
    if is_yaml && !is_json {
        return Ok(headscale::parse(text)?);
    }
    // A node of two bytes of JSON takes hundreds in memory.
    if text.iter().filter(|&&byte| byte == b'{').count() > MOST_OBJECTS {
        return Err(MapError::TooManyObjects);
    }
    serde_json::from_slice(text).map_err(MapError::Json)
}

/// A URL's path as the file system knows it, or `None` where it is no path.
fn percent_decoded(path: &str) -> Option<String> {
    if path.contains(['?', '#']) {
        return None;
    }
    let path = percent_encoding::percent_decode_str(path).decode_utf8();
    path.ok()
        .map(Cow::into_owned)
        .filter(|path| !path.contains('\0'))
}

/// Regions and nodes that are not probed are read too. So many take some 60 MiB.
const MOST_OBJECTS: usize = 200_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::RootCertStore;

    use super::*;
    use crate::report::in_words;
    use crate::trust::Trust;

    #[test]
    fn sources_are_urls_with_a_place() {
        let file = |path: &str| Ok(Source::File(path.into()));
        let web = |url: &str| Ok(Source::Web(url.parse().unwrap()));
        let local = |path: &str| Ok(Source::Local(path.into()));
        let bad = |text: &str| Err(SourceError::Url(text.to_owned()));
        let table = [
            ("file:///etc/map.json", file("/etc/map.json")),
            ("file://localhost/etc/a%20b", file("/etc/a b")),
            (
                "https://derp.test/map?x=1",
                web("https://derp.test/map?x=1"),
            ),
            ("http://[::1]:8080/map", web("http://[::1]:8080/map")),
            ("HTTPS://derp.test", web("https://derp.test/")),
            ("local", local("/var/run/tailscale/tailscaled.sock")),
            ("local:/run/ts.sock", local("/run/ts.sock")),
            ("", bad("")),
            ("/etc/map.json", file("/etc/map.json")),
            ("./map", file("./map")),
            ("maps/derp.yaml", file("maps/derp.yaml")),
            ("file://etc/map.json", bad("file://etc/map.json")),
            ("file:///a%2", file("/a%2")),
            ("file:///a%ff", bad("file:///a%ff")),
            ("file:///a%00", bad("file:///a%00")),
            ("file:///a?b", bad("file:///a?b")),
            ("ftp://derp.test/map", bad("ftp://derp.test/map")),
            ("https://", bad("https://")),
            ("https:///map", bad("https:///map")),
            ("https://user@derp.test/", bad("https://user@derp.test/")),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Source>(), expected, "{text}");
        }
    }

    async fn load(content: &[u8]) -> Result<DerpMap, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map.json");
        std::fs::write(&path, content).unwrap();
        let web = Web::new(&Trust::of(RootCertStore::empty()));
        let source = Source::File(path.clone());
        let map = source
            .load(&web, Deadline::after(Duration::from_secs(10)))
            .await;
        map.map_err(|err| in_words(&err).replace(path.to_str().unwrap(), "FILE"))
    }

    #[tokio::test]
    async fn a_map_in_a_file_is_read() {
        let map = load(br#"{"Regions":{"1":{"RegionID":1,"RegionCode":"r"}}}"#)
            .await
            .unwrap();
        assert_eq!(map.regions[&1].as_ref().unwrap().region_code, "r");
    }

    #[tokio::test]
    async fn what_is_no_map_says_so() {
        let objects = [b"[".as_slice(), &b"{".repeat(MOST_OBJECTS + 1)].concat();
        let table: [(&[u8], &str); 5] = [
            (b"<html>", "expected value at line 1 column 1"),
            (b"", "EOF while parsing a value at line 1 column 0"),
            (
                br#"{"Regions":{"NaN":{}}}"#,
                "invalid value: expected key to be a number in quotes at line 1 column 13",
            ),
            (
                &vec![b' '; LONGEST_MAP + 1],
                "FILE has more than 4194304 bytes, which no DERP map has",
            ),
            (
                &objects,
                "what should be the DERP map has more than 200000 JSON objects in it",
            ),
        ];
        for (content, expected) in table {
            let words = load(content).await.unwrap_err();
            let what = "what should be the DERP map is none, which would be JSON like \
                        {\"Regions\":{\"1\":…}}, or YAML as Headscale's where the name ends in .yaml: ";
            assert_eq!(words.strip_prefix(what).unwrap_or(&words), expected);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let web = Web::new(&Trust::of(RootCertStore::empty()));
        let source = Source::File("/nonexistent/map".into());
        let err = source
            .load(&web, Deadline::after(Duration::from_secs(10)))
            .await
            .unwrap_err();
        assert_eq!(
            in_words(&err),
            "cannot read the DERP map in /nonexistent/map: No such file or directory (os error 2)"
        );
    }
}
