//! From a command line to what is to be probed: everything checked, the mesh key read.
//!
//! All mistakes are found at once. A flag that asks for something that this version does not have
//! is one of them: nothing that an operator asks for is left out in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use derp_client::ProxyEnvironment;
use derp_ops::goflag::{GoDuration, parse_bool, parse_int};
use derp_ops::meshkey;
use derp_ops::secret_file::OpenMode;
use derp_proto::MeshKey;

use crate::args::Args;
use crate::derpmap::Source;
use crate::output::{Format, FormatError};
use crate::plan::{Pace, PlanOptions, Refused};
use crate::probe::{ExpectedKeys, KeyMistake};
use crate::report::in_words;
use crate::service::Settings;

/// The environment, by name.
pub type Vars = BTreeMap<String, String>;

/// The variable that has the mesh key with `-dev`.
pub const MESH_KEY_VARIABLE: &str = "TAILSCALE_DERPER_MESH_KEY";

/// How often certificates are probed where connections are kept and nobody says how often: each
/// time costs a handshake.
const RARE_HANDSHAKES: Duration = Duration::from_secs(300);

/// What is to be probed, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether everything is probed once, and then the program ends.
    pub once: bool,
    /// How results are printed then.
    pub format: Format,
    /// The keys that relays must have.
    pub server_keys: ExpectedKeys,
    /// Where the map is.
    pub source: Source,
    /// How often the map is fetched.
    pub map_interval: Duration,
    /// Which probes there are to be.
    pub plan: PlanOptions,
    /// Whether connections stay open from one run to the next.
    pub keep_connections: bool,
    /// Whether probes are delayed by a part of their interval.
    pub spread: bool,
    /// The relays' mesh key.
    pub mesh_key: Option<MeshKey>,
    /// The proxies that relays are reached through.
    pub proxies: ProxyEnvironment,
    /// What else there is to know where it is not once.
    pub service: Settings,
    /// What is odd, and no mistake.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with a command line and its environment. `Display` is a line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|mistake| writeln!(f, "derpprobe: {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Checks `args`, and reads the mesh key's file where they name one.
    ///
    /// # Errors
    /// All [`Mistakes`].
    pub fn build(args: &Args, vars: &Vars) -> Result<Self, Mistakes> {
        let mut reader = Reader {
            args,
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        let source = reader.source();
        let once = reader.switch("once") == Some(true);
        reader.refuse_what_is_not_built();
        let map_interval = reader.duration("interval");
        if map_interval.is_some_and(|interval| interval.is_zero()) {
            reader.mistake("-interval must be longer than zero");
        }
        let format = reader.format();
        let server_keys = reader.server_keys();
        let keep_connections = reader.switch("keep-connections") == Some(true) && !once;
        let mut plan = reader.plan(&server_keys);
        if keep_connections && !args.is_given("tls-interval") {
            plan.tls = Some(RARE_HANDSHAKES);
        }
        let spread = reader.switch("spread") == Some(true);
        let mesh_key = reader.mesh_key(vars);
        plan.has_mesh_key = mesh_key.is_some();
        let proxies = ProxyEnvironment::from_lookup(|name| vars.get(name).cloned());
        let proxies = proxies.unwrap_or_else(|err| {
            reader.mistake(format!("the proxy in the environment: {}", in_words(&err)));
            ProxyEnvironment::default()
        });
        let service = reader.service(vars);
        if !args.ignored.is_empty() {
            let words = args.ignored.join(" ");
            reader
                .warnings
                .push(format!("what follows the flags is ignored: {words}"));
        }
        match (source, map_interval, service) {
            (Some(source), Some(map_interval), Some(service)) if reader.mistakes.is_empty() => {
                Ok(Self {
                    once,
                    format,
                    server_keys,
                    source,
                    map_interval,
                    plan,
                    keep_connections,
                    spread,
                    mesh_key,
                    proxies,
                    service,
                    warnings: reader.warnings,
                })
            }
            _ => Err(Mistakes(reader.mistakes)),
        }
    }
}

/// Reads values, and collects what is wrong with them.
struct Reader<'a> {
    args: &'a Args,
    mistakes: Vec<String>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn mistake(&mut self, what: impl Into<String>) {
        self.mistakes.push(what.into());
    }

    fn source(&mut self) -> Option<Source> {
        match self.args.value("derp-map").parse() {
            Ok(source) => Some(source),
            Err(err) => {
                self.mistake(format!("-derp-map: {err}"));
                None
            }
        }
    }

    fn switch(&mut self, name: &str) -> Option<bool> {
        let value = parse_bool(self.args.value(name));
        if value.is_none() {
            self.mistake(format!("-{name} is a switch: write true or false"));
        }
        value
    }

    fn int(&mut self, name: &str) -> Option<i64> {
        let text = self.args.value(name);
        let value = parse_int(text);
        if value.is_none() {
            self.mistake(format!("-{name}: {text:?} is not a whole number"));
        }
        value
    }

    /// A duration; a negative one counts as none at all, as in Go.
    fn duration(&mut self, name: &str) -> Option<Duration> {
        let text = self.args.value(name);
        match text.parse::<GoDuration>() {
            Ok(duration) => Some(duration.to_std().unwrap_or_default()),
            Err(err) => {
                self.mistake(format!(
                    "-{name}: {text:?}: {err}; write one like 15s or 1m30s"
                ));
                None
            }
        }
    }

    /// The interval of a kind of probes, or `None` where they are off.
    fn interval(&mut self, name: &str) -> Option<Duration> {
        self.duration(name).filter(|interval| !interval.is_zero())
    }

    fn service(&mut self, vars: &Vars) -> Option<Settings> {
        Settings::read(self.args, vars, &mut self.mistakes, &mut self.warnings)
    }

    fn refuse_what_is_not_built(&mut self) {
        if !self.args.value("bw-tun-ipv4-addr").is_empty() {
            self.mistake(
                "-bw-tun-ipv4-addr: this version has no bandwidth probe through a TUN device; \
                 without the flag, -bw-interval probes over DERP alone",
            );
        }
        for name in ["secrets-url", "secrets-path-prefix", "secrets-cache-dir"] {
            if self.args.is_given(name) && !self.args.value(name).is_empty() {
                self.mistake(format!(
                    "-{name}: this version does not take the mesh key from a secrets server; give \
                     it in a file with -mesh-psk-file"
                ));
            }
        }
    }

    fn format(&mut self) -> Format {
        let format: Result<Format, FormatError> = self.args.value("format").parse();
        let format = match format {
            Ok(format) => format,
            Err(err) => {
                self.mistake(format!("-format: {err}"));
                Format::default()
            }
        };
        match self.switch("json") {
            Some(true) if self.args.is_given("format") && format != Format::Json => {
                self.mistake("-json and -format ask for different forms");
                format
            }
            Some(true) => Format::Json,
            _ => format,
        }
    }

    fn server_keys(&mut self) -> ExpectedKeys {
        let keys = self.args.value("server-key").parse();
        keys.unwrap_or_else(|err: KeyMistake| {
            self.mistake(format!("-server-key: {}", in_words(&err)));
            ExpectedKeys::default()
        })
    }

    /// What is probed, and how often.
    fn plan(&mut self, server_keys: &ExpectedKeys) -> PlanOptions {
        let size = self.int("bw-probe-size-bytes");
        let size = size.and_then(|size| u64::try_from(size).ok());
        let bandwidth = self.interval("bw-interval").zip(size);
        let all = self.switch("all") == Some(true);
        let region = self.args.value("region-code").to_owned();
        let refused: Result<Refused, _> = self.args.value("expect-refused").parse();
        let refused = refused.unwrap_or_else(|never| match never {});
        let admission = self.interval("admission-interval");
        PlanOptions {
            region: Some(region).filter(|code| !code.is_empty()),
            tls: self.interval("tls-interval"),
            stun: self.interval("stun-interval"),
            mesh: self.interval("mesh-interval"),
            bandwidth: bandwidth.filter(|&(_, size)| size > 0),
            queue_delay: self.queue_delay(),
            convergence: self.interval_of_ours("convergence-interval", all),
            http: self.interval_of_ours("http-interval", all),
            websocket: self.interval_of_ours("websocket-interval", all),
            // Whoever names a key wants it looked at.
            info: self.interval_of_ours("info-interval", all || !server_keys.is_empty()),
            admission: admission.filter(|_| refused != Refused::Nowhere),
            refused,
            keyed: server_keys.nodes().map(str::to_owned).collect(),
            has_mesh_key: false,
        }
    }

    /// The interval of a kind of probes that the reference does not have. Where nobody gave one,
    /// `wanted` decides whether there are any.
    fn interval_of_ours(&mut self, name: &str, wanted: bool) -> Option<Duration> {
        let given = self.interval(name);
        if wanted && !self.args.is_given(name) {
            Some(OURS)
        } else {
            given
        }
    }

    fn queue_delay(&mut self) -> Option<(Duration, Pace)> {
        let rate = self.int("qd-packets-per-second");
        let packet_timeout = self.duration("qd-packet-timeout");
        let interval = self.interval("qd-interval");
        let rate = rate.filter(|&rate| rate > 0)?;
        let Some(packets_per_second) = u32::try_from(rate).ok().filter(|&rate| rate <= FASTEST)
        else {
            self.mistake(format!(
                "-qd-packets-per-second: {rate} is more than {FASTEST}; -bw-interval probes how \
                 much gets through"
            ));
            return None;
        };
        let pace = Pace {
            packets_per_second,
            packet_timeout: packet_timeout?,
        };
        Some((interval?, pace))
    }

    fn mesh_key(&mut self, vars: &Vars) -> Option<MeshKey> {
        let file = self.args.value("mesh-psk-file");
        if self.switch("dev") != Some(true) {
            return self.mesh_key_in(Path::new(file));
        }
        if !file.is_empty() {
            self.warnings
                .push("with -dev the file of -mesh-psk-file is not read".to_owned());
        }
        let text = vars.get(MESH_KEY_VARIABLE).map_or("", |text| text.trim());
        if text.is_empty() {
            self.warnings
                .push(format!("-dev without a mesh key in {MESH_KEY_VARIABLE}"));
            return None;
        }
        match MeshKey::from_secret_text(text) {
            Ok(key) => Some(key),
            Err(err) => {
                self.mistake(format!(
                    "{MESH_KEY_VARIABLE} does not hold a mesh key: {err}"
                ));
                None
            }
        }
    }

    fn mesh_key_in(&mut self, file: &Path) -> Option<MeshKey> {
        if file.as_os_str().is_empty() {
            return None;
        }
        match meshkey::load(file, OpenMode::Warn) {
            Ok(loaded) => {
                self.warnings
                    .extend(loaded.too_open.map(|too_open| too_open.to_string()));
                Some(loaded.key)
            }
            Err(err) => {
                self.mistake(format!("-mesh-psk-file: {}", in_words(&err)));
                None
            }
        }
    }
}

/// How often kinds of probes run that only `-all` asks for.
const OURS: Duration = Duration::from_secs(15);
/// The most packets a second by which a queue's delay is measured.
const FASTEST: u32 = 1_000;

#[cfg(test)]
mod tests;
