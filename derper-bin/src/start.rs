//! From the process's words and variables to a configuration, and what is printed about it.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use crate::args::{Args, Exit};
use crate::config::{self, Config, Doorway, KeyPlan, Surroundings, Tls};
use crate::env::Vars;
use crate::gather::gather;
use crate::problem::Mistakes;
use crate::{clock, memory, process};

/// What the operator started the program with. It is kept, for a reload reads it again.
#[derive(Clone)]
pub struct Start {
    /// The command line.
    pub args: Args,
    /// The environment.
    pub vars: Vars,
}

impl fmt::Debug for Start {
    // Variables may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

impl Start {
    /// The configuration, as files and the clock are now.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn config(&self) -> Result<Config, Mistakes> {
        Config::build(gather(self.args.clone(), &self.vars), &self.surroundings())
    }

    /// Where the relay of this configuration can be asked how it is.
    ///
    /// # Errors
    /// All mistakes in what says so.
    pub fn doorway(&self) -> Result<Doorway, Mistakes> {
        Doorway::read(gather(self.args.clone(), &self.vars), &self.surroundings())
    }

    /// The admin socket of the relay of this configuration, where it has one.
    ///
    /// # Errors
    /// There is none, and there are mistakes.
    pub fn admin_socket(&self) -> Result<Option<PathBuf>, Mistakes> {
        config::admin_socket(gather(self.args.clone(), &self.vars), &self.surroundings())
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            vars: self.vars.clone(),
            is_root: process::is_root(),
            now: clock::wall(),
            memory_limit: memory::limit(),
            file_limit: process::max_open_files(),
        }
    }
}

/// The environment; variables that are no text are none of ours.
#[must_use]
pub fn vars() -> Vars {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// The words after the program's name.
///
/// # Errors
/// One of them is no text.
pub fn words() -> Result<Vec<String>, Exit> {
    let words = std::env::args_os().skip(1).map(|word| {
        word.into_string().map_err(|word| Exit {
            text: format!("derper: {word:?} is not UTF-8\n"),
            code: 2,
        })
    });
    words.collect()
}

/// Writes to standard output or standard error. Whoever has closed it does not want to know.
pub fn print(text: &str, to_stdout: bool) {
    let _closed = if to_stdout {
        std::io::stdout().lock().write_all(text.as_bytes())
    } else {
        std::io::stderr().lock().write_all(text.as_bytes())
    };
}

/// What `derper check-config` says of a good configuration.
#[must_use]
pub fn summary(config: &Config) -> String {
    let mut text = String::new();
    for warning in &config.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let tls = match &config.tls {
        Tls::Off => "plain HTTP".to_owned(),
        Tls::Files(files) => {
            let names = files.pairs.iter().map(|pair| pair.files.cert.display());
            let names: Vec<_> = names.map(|name| name.to_string()).collect();
            format!("TLS with {}", names.join(", "))
        }
        Tls::Create { files, .. } => {
            format!("TLS with {}, which will be made", files.cert.display())
        }
        Tls::Acme(acme) => format!("TLS with a certificate from {}", acme.options.directory),
    };
    text.push_str(&format!("listen: {} ({tls})\n", config.listen.main()));
    for extra in &config.listen.extra {
        let tls = if extra.is_plain { "plain HTTP" } else { &tls };
        text.push_str(&format!("listen: {} ({tls})\n", extra.place));
    }
    if let Some(http) = config.listen.http {
        text.push_str(&format!(
            "listen: {http} (redirects and captive portal checks)\n"
        ));
    }
    if let Some(stun) = config.stun {
        text.push_str(&format!("STUN: UDP {}\n", stun.address));
    }
    text.push_str(&match &config.key {
        KeyPlan::Ephemeral => "key: a new one at each start\n".to_owned(),
        KeyPlan::Loaded { path, key } => format!("key: {} ({})\n", path.display(), key.public()),
        KeyPlan::Create { path, .. } => format!("key: {}, which will be made\n", path.display()),
    });
    text.push_str("the configuration is good\n");
    text
}
