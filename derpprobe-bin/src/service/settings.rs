//! What the service needs to know besides what is probed: where it listens, whom it tells, what it
//! keeps.

use std::net::IpAddr;
use std::path::PathBuf;

use derp_ops::debug_access::{DebugAccess, parse_cidrs};
use derp_ops::listen_addr::ListenAddr;
use derp_ops::secret_file::{self, OpenMode};
use http::{HeaderValue, Uri};
use zeroize::Zeroizing;

use super::webhook::Webhook;
use crate::args::Args;
use crate::config::Vars;
use crate::report::in_words;

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the pages are.
    pub listen: ListenAddr,
    /// Who may see those under `/debug/`.
    pub debug: DebugAccess,
    /// Where the last day is kept.
    pub history_file: Option<PathBuf>,
    /// Whom to tell of changes.
    pub webhook: Option<Webhook>,
    /// After how many runs in a row that say so a probe counts as bad, or as good again.
    pub runs_in_a_row: u32,
}

impl Settings {
    /// Reads flags and environment. What is wrong goes to `mistakes`, what is odd to `warnings`.
    pub(crate) fn read(
        args: &Args,
        vars: &Vars,
        mistakes: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Option<Self> {
        let mut reader = Reader {
            args,
            vars,
            mistakes,
            warnings,
        };
        let listen = reader.listen();
        let settings = (reader.runs_in_a_row(), reader.webhook(), reader.debug());
        let history_file = args.value("history-file");
        let (runs_in_a_row, webhook, debug) = settings;
        Some(Self {
            listen: listen?,
            debug,
            history_file: Some(PathBuf::from(history_file))
                .filter(|path| !path.as_os_str().is_empty()),
            webhook,
            runs_in_a_row: runs_in_a_row?,
        })
    }
}

struct Reader<'a> {
    args: &'a Args,
    vars: &'a Vars,
    mistakes: &'a mut Vec<String>,
    warnings: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn listen(&mut self) -> Option<ListenAddr> {
        match self.args.value("listen").parse() {
            Ok(address) => Some(address),
            Err(err) => {
                self.mistakes.push(format!("-listen: {err}"));
                None
            }
        }
    }

    fn runs_in_a_row(&mut self) -> Option<u32> {
        let text = self.args.value("runs-in-a-row");
        match text.parse() {
            Ok(runs @ 1..=1_000) => Some(runs),
            _ => {
                self.mistakes.push(format!(
                    "-runs-in-a-row: {text:?} is not a number from 1 on"
                ));
                None
            }
        }
    }

    fn webhook(&mut self) -> Option<Webhook> {
        let (url, file) = (
            self.args.value("webhook"),
            self.args.value("webhook-token-file"),
        );
        if url.is_empty() {
            if !file.is_empty() {
                self.mistakes
                    .push("-webhook-token-file is for -webhook, which is not given".to_owned());
            }
            return None;
        }
        let is_web =
            |url: &Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
        let Some(url) = url.parse::<Uri>().ok().filter(is_web) else {
            self.mistakes
                .push("-webhook must be http://HOST/PATH or https://HOST/PATH".to_owned());
            return None;
        };
        let authorization = match file {
            "" => None,
            file => {
                let token = self.secret("-webhook-token-file", file)?;
                let value = Zeroizing::new(format!("Bearer {}", token.trim()));
                let Ok(mut value) = HeaderValue::from_str(&value) else {
                    self.mistakes.push(format!(
                        "-webhook-token-file: {file} holds more than a line"
                    ));
                    return None;
                };
                value.set_sensitive(true);
                Some(value)
            }
        };
        Some(Webhook { url, authorization })
    }

    /// Who may see the debug pages, by the reference's variables.
    fn debug(&mut self) -> DebugAccess {
        let var = |name: &str| self.vars.get(name).map_or("", |text| text.trim());
        let (ip, cidrs, key) = (
            var("TS_ALLOW_DEBUG_IP"),
            var("TS_DEBUG_TRUSTED_CIDRS"),
            var("TS_DEBUG_KEY_PATH"),
        );
        let allowed_ip = (!ip.is_empty()).then(|| ip.parse::<IpAddr>());
        if let Some(Err(_)) = allowed_ip {
            let mistake = format!("TS_ALLOW_DEBUG_IP: {ip:?} is not an IP address");
            self.mistakes.push(mistake);
        }
        let trusted = parse_cidrs(cidrs).unwrap_or_else(|err| {
            self.mistakes.push(format!("TS_DEBUG_TRUSTED_CIDRS: {err}"));
            Vec::new()
        });
        let key = match key {
            "" => None,
            path => self
                .secret("TS_DEBUG_KEY_PATH", path)
                .map(|key| Zeroizing::new(key.trim().to_owned())),
        };
        DebugAccess {
            allowed_ip: allowed_ip.and_then(Result::ok),
            trusted,
            key,
        }
    }

    /// The text of a secret file, or `None` and a mistake.
    fn secret(&mut self, name: &str, path: &str) -> Option<Zeroizing<String>> {
        let secret = match secret_file::read(path.as_ref(), OpenMode::Warn) {
            Ok(secret) => secret,
            Err(err) => {
                self.mistakes.push(format!("{name}: {}", in_words(&err)));
                return None;
            }
        };
        self.warnings
            .extend(secret.too_open.map(|too_open| too_open.to_string()));
        if secret.text.trim().is_empty() {
            self.mistakes.push(format!("{name}: {path} is empty"));
            return None;
        }
        Some(secret.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str, vars: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
        let args = Args::parse(words.split_whitespace().map(str::to_owned)).unwrap();
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut mistakes = Vec::new();
        let settings = Settings::read(&args, &vars, &mut mistakes, &mut Vec::new());
        (settings, mistakes)
    }

    #[test]
    fn without_flags_it_listens_where_the_reference_does_and_tells_nobody() {
        let (settings, mistakes) = read("", &[]);
        let settings = settings.unwrap();
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(settings.listen.to_string(), ":8030");
        assert!(settings.webhook.is_none() && settings.history_file.is_none());
        assert_eq!(settings.runs_in_a_row, 2);
    }

    #[test]
    fn all_mistakes_are_told() {
        let vars = [
            ("TS_ALLOW_DEBUG_IP", "host"),
            ("TS_DEBUG_TRUSTED_CIDRS", "10.0.0.0/8,x"),
            ("TS_DEBUG_KEY_PATH", "/nonexistent/key"),
        ];
        let words = "-listen 8030 -runs-in-a-row 0 -webhook ftp://a/b";
        let (settings, mistakes) = read(words, &vars);
        assert!(settings.is_none());
        let starts: Vec<_> = mistakes
            .iter()
            .map(|mistake| mistake.split([':', ' ']).next().unwrap())
            .collect();
        let expected = [
            "-listen",
            "-runs-in-a-row",
            "-webhook",
            "TS_ALLOW_DEBUG_IP",
            "TS_DEBUG_TRUSTED_CIDRS",
            "TS_DEBUG_KEY_PATH",
        ];
        assert_eq!(starts, expected, "{mistakes:?}");
        let (_, mistakes) = read("-webhook-token-file /x", &[]);
        assert_eq!(
            mistakes,
            ["-webhook-token-file is for -webhook, which is not given"]
        );
    }

    #[test]
    fn tokens_are_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let words = format!(
            "-webhook https://h.test/hook/s3cret -webhook-token-file {}",
            file.display()
        );
        let (settings, mistakes) = read(&words, &[]);
        assert_eq!(mistakes, Vec::<String>::new());
        let webhook = settings.unwrap().webhook.unwrap();
        assert_eq!(
            webhook.authorization.as_ref().map(HeaderValue::as_bytes),
            Some(&b"Bearer s3cret"[..])
        );
        assert!(!format!("{webhook:?}").contains("s3cret"));
    }
}
