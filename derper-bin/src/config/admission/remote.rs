//! Those who are asked about each client: tailscaleds, a Headscale server, admission controllers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use derp_ops::secret_file::{self, OpenMode};
use derp_verify::{
    Admission, Credentials, Headscale, HeadscaleOptions, HeadscaleVerify, HttpConfigError,
    HttpOptions, NodeRules, Tailscaled,
};
use sha2::{Digest, Sha256};

use crate::config::reader::Reader;
use crate::problem::chain;
use crate::settings::{
    HEADSCALE_API_KEY_FILE, HEADSCALE_REFUSE_EXPIRED, HEADSCALE_TAGS, HEADSCALE_USERS, Setting,
    VERIFY_CA_FILE, VERIFY_HEADSCALE, VERIFY_PROXY, VERIFY_TAILSCALED, VERIFY_URL,
    VERIFY_URL_BEARER_FILE, VERIFY_URL_HEADER, VERIFY_URL_HEADER_FILE,
};
use crate::sources::Origin;

/// Somebody who is asked about each client. Two that are equal give the same answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// What metrics and logs call it: its kind, and a number where there are several.
    pub name: String,
    /// Who it is.
    pub source: Source,
    /// How it is asked, where that is over HTTP.
    pub http: HttpOptions,
    /// The hash of the trusted certificates' file, so that others under the same name count.
    ca_hash: Option<[u8; 32]>,
}

/// Who is asked.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The tailscaled at this socket.
    Tailscaled(PathBuf),
    /// The `/verify` of the Headscale server at this URL.
    HeadscaleVerify(String),
    /// The list of nodes of the Headscale server.
    HeadscaleNodes {
        /// The server's URL.
        url: String,
        /// A file with an API key.
        api_key_file: PathBuf,
        /// Which nodes are admitted.
        rules: NodeRules,
    },
    /// The admission controller at this URL.
    Url(String),
}

impl std::fmt::Debug for Source {
    // URLs may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tailscaled(socket) => f.debug_tuple("Tailscaled").field(socket).finish(),
            Self::HeadscaleVerify(_) => f.write_str("HeadscaleVerify"),
            Self::HeadscaleNodes { rules, .. } => {
                f.debug_tuple("HeadscaleNodes").field(rules).finish()
            }
            Self::Url(_) => f.write_str("Url"),
        }
    }
}

/// A remote that can be asked.
#[derive(Debug)]
pub enum Opened {
    /// A tailscaled.
    Tailscaled(Tailscaled),
    /// A Headscale server's `/verify`.
    HeadscaleVerify(HeadscaleVerify),
    /// A Headscale server's list of nodes, to be kept fresh.
    HeadscaleNodes(Arc<Headscale>),
    /// An admission controller.
    Url(Admission),
}

impl Remote {
    /// Makes it ready to be asked. Blocks while files are read; asks nobody yet.
    ///
    /// # Errors
    /// A URL or a file cannot be used.
    pub fn open(&self) -> Result<Opened, HttpConfigError> {
        let http = self.http.clone();
        Ok(match &self.source {
            Source::Tailscaled(socket) => {
                Opened::Tailscaled(Tailscaled::new(socket).with_timeout(http.timeout))
            }
            Source::HeadscaleVerify(url) => {
                Opened::HeadscaleVerify(HeadscaleVerify::new(url, http)?)
            }
            Source::HeadscaleNodes {
                url,
                api_key_file,
                rules,
            } => {
                let mut options = HeadscaleOptions::default();
                options.rules = rules.clone();
                options.refresh = NODES_REFRESH;
                options.http = http;
                let nodes = Headscale::new(url, api_key_file.clone(), options)?;
                Opened::HeadscaleNodes(Arc::new(nodes))
            }
            Source::Url(url) => Opened::Url(Admission::new(url, http)?),
        })
    }
}

pub(super) fn read(reader: &mut Reader<'_>, timeout: Duration) -> Vec<Remote> {
    let mut http = HttpOptions::default();
    http.timeout = timeout;
    http.proxy = reader.given(&VERIFY_PROXY).map(|given| given.text);
    http.ca_file = reader.path(&VERIFY_CA_FILE);
    let ca_hash = match http.ca_file.as_deref().map(std::fs::read) {
        None => None,
        Some(Ok(pem)) => Some(Sha256::digest(pem).into()),
        Some(Err(err)) => {
            reader.reject(&VERIFY_CA_FILE, format_args!("cannot read it: {err}"));
            http.ca_file = None;
            None
        }
    };
    let remote = |name: String, source, http: &HttpOptions| Remote {
        name,
        source,
        http: http.clone(),
        ca_hash,
    };

    let mut remotes = Vec::new();
    let sockets = reader.full_list(&VERIFY_TAILSCALED);
    for (n, socket) in sockets.iter().enumerate() {
        let path = PathBuf::from(socket.strip_prefix("unix://").unwrap_or(socket));
        if !path.is_absolute() {
            let what = format_args!("{socket:?} is not the path of a socket; begin it with /");
            reader.reject(&VERIFY_TAILSCALED, what);
        }
        let name = numbered("tailscaled", n, sockets.len());
        remotes.push(remote(name, Source::Tailscaled(path), &http));
    }
    if let Some(url) = reader.given(&VERIFY_HEADSCALE) {
        let source = headscale(reader, url.text);
        remotes.push(remote("headscale".to_owned(), source, &http));
    }
    let urls = reader.full_list(&VERIFY_URL);
    http.credentials = credentials(reader, urls.len());
    for (n, url) in urls.iter().enumerate() {
        let name = numbered("url", n, urls.len());
        remotes.push(remote(name, Source::Url(url.clone()), &http));
    }
    remotes.retain(|remote| can_be_opened(reader, remote));
    remotes
}

fn numbered(kind: &str, at: usize, of: usize) -> String {
    if of == 1 {
        return kind.to_owned();
    }
    format!("{kind}-{}", at + 1)
}

fn headscale(reader: &mut Reader<'_>, url: String) -> Source {
    let Some(api_key_file) = secret(reader, &HEADSCALE_API_KEY_FILE) else {
        return Source::HeadscaleVerify(url);
    };
    let mut rules = NodeRules::default();
    rules.users = reader.restriction(&HEADSCALE_USERS).into_iter().collect();
    rules.tags = reader.restriction(&HEADSCALE_TAGS).into_iter().collect();
    rules.refuse_expired = reader.switch(&HEADSCALE_REFUSE_EXPIRED);
    let bad: Vec<_> = rules
        .tags
        .iter()
        .filter(|tag| !tag.starts_with("tag:"))
        .collect();
    if let [tag, ..] = bad.as_slice() {
        let what = format!("{tag:?} is not a tag; tags begin with tag:");
        reader.reject(&HEADSCALE_TAGS, what);
    }
    Source::HeadscaleNodes {
        url,
        api_key_file,
        rules,
    }
}

/// What proves to an admission controller who asks.
fn credentials(reader: &mut Reader<'_>, urls: usize) -> Option<Credentials> {
    let bearer = secret(reader, &VERIFY_URL_BEARER_FILE);
    let value = secret(reader, &VERIFY_URL_HEADER_FILE);
    let header = reader.given(&VERIFY_URL_HEADER);
    let (name_of_header, name_of_value) = (
        reader.name_of(&VERIFY_URL_HEADER),
        reader.name_of(&VERIFY_URL_HEADER_FILE),
    );
    let given = |setting| reader.given(setting).is_some();
    let has_bearer = given(&VERIFY_URL_BEARER_FILE);
    let has_value = given(&VERIFY_URL_HEADER_FILE);
    if (has_bearer || has_value) && urls > 1 {
        let secret = if has_bearer {
            &VERIFY_URL_BEARER_FILE
        } else {
            &VERIFY_URL_HEADER_FILE
        };
        reader.problem(format!(
            "{}: each of the {urls} admission controllers would be told the secret; give one \
             --verify-url, and ask the others through it or without a secret",
            reader.name_of(secret)
        ));
    }
    if has_bearer && (has_value || header.is_some()) {
        reader.problem(format!(
            "{} and {} both say how requests prove where they come from; remove one of them",
            reader.name_of(&VERIFY_URL_BEARER_FILE),
            if has_value {
                name_of_value
            } else {
                name_of_header
            }
        ));
        return None;
    }
    match (bearer, header, value) {
        (Some(path), ..) => Some(Credentials::BearerFile(path)),
        (None, Some(header), Some(path)) => Some(Credentials::HeaderFile {
            name: header.text,
            path,
        }),
        (None, Some(_), None) if !has_value => {
            reader.problem(format!(
                "{name_of_header}: a header without a value; name a file that holds it with \
                 verify.url_header_file"
            ));
            None
        }
        (None, None, Some(_)) => {
            reader.problem(format!(
                "{name_of_value}: a value without a header; name the header with \
                 verify.url_header"
            ));
            None
        }
        _ => None,
    }
}

/// The path of a secret that `setting` names, if it can be read, and by its owner alone.
fn secret(reader: &mut Reader<'_>, setting: &Setting) -> Option<PathBuf> {
    let given = reader.given(setting)?;
    let path = Path::new(&given.text);
    // Who starts containers sets variables, and does not choose the modes of the files.
    let on_open = match given.origin {
        Origin::Env(_) => OpenMode::Warn,
        _ => OpenMode::Refuse,
    };
    match secret_file::read(path, on_open) {
        Ok(secret) => {
            reader.warn_too_open(secret.too_open);
            Some(path.to_owned())
        }
        Err(err) => {
            reader.problem(format!("{}: {}", given.origin, chain(&err)));
            None
        }
    }
}

/// Tells what is wrong without repeating URLs, for they may hold passwords.
fn can_be_opened(reader: &mut Reader<'_>, remote: &Remote) -> bool {
    let Err(err) = remote.open() else { return true };
    let setting = match (&err, &remote.source) {
        (HttpConfigError::Proxy(_), _) => &VERIFY_PROXY,
        (HttpConfigError::Roots { .. }, _) if remote.http.ca_file.is_some() => &VERIFY_CA_FILE,
        (HttpConfigError::Credentials(_), Source::HeadscaleNodes { .. }) => &HEADSCALE_API_KEY_FILE,
        (HttpConfigError::Credentials(_), _) => match remote.http.credentials {
            Some(Credentials::HeaderFile { .. }) => &VERIFY_URL_HEADER,
            _ => &VERIFY_URL_BEARER_FILE,
        },
        (_, Source::Url(_)) => &VERIFY_URL,
        _ => &VERIFY_HEADSCALE,
    };
    let name = reader.name_of(setting);
    let which = match remote.name.split_once('-') {
        Some((_, number)) if setting.key == VERIFY_URL.key => format!(" no. {number}"),
        _ => String::new(),
    };
    reader.problem(format!("{name}{which}: {}", chain(&err)));
    false
}

/// How often a Headscale server's list is read: a node that was removed stays no longer than
/// this and the interval of verification together.
const NODES_REFRESH: Duration = Duration::from_secs(10);
