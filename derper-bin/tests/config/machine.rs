//! A machine with a home directory, on which configurations are tried.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use derper::args::Args;
use derper::config::{Config, Doorway, Surroundings};
use derper::env::Vars;
use derper::gather::{Gathered, gather};
use derper::problem::Mistakes;

pub(crate) const KEY: &str =
    "{\"PrivateKey\":\"privkey:1011111111111111111111111111111111111111111111111111111111111151\"}";
pub(crate) const MESH_KEY: &str =
    "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";

/// A home directory with files that configurations name. `{}` stands for it in every text.
pub(crate) struct Machine {
    pub(crate) home: tempfile::TempDir,
    pub(crate) is_root: bool,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) file_limit: Option<u64>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let machine = Self {
            home,
            is_root: false,
            memory_limit: None,
            file_limit: None,
        };
        machine.write("derper.key", 0o600, KEY);
        machine.write("mesh.key", 0o600, MESH_KEY);
        machine.write("open.key", 0o644, KEY);
        machine.write("empty", 0o600, "");
        machine.write("nodes", 0o644, "# nobody yet\n");
        machine
    }

    pub(crate) fn write(&self, name: &str, mode: u32, content: &str) {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    pub(crate) fn home(&self) -> String {
        self.home.path().display().to_string()
    }

    pub(crate) fn build(
        &self,
        flags: &str,
        vars: &[(&str, &str)],
        file: &str,
    ) -> Result<Config, String> {
        let (gathered, surroundings) = self.given(flags, vars, file);
        Config::build(gathered, &surroundings).map_err(|mistakes| self.told(&mistakes))
    }

    /// The mistakes of a configuration, as a reload is told of them.
    pub(crate) fn reload(
        &self,
        flags: &str,
        vars: &[(&str, &str)],
        file: &str,
    ) -> Result<Config, Mistakes> {
        let (gathered, surroundings) = self.given(flags, vars, file);
        Config::build(gathered, &surroundings)
    }

    pub(crate) fn doorway(&self, flags: &str, file: &str) -> Result<Doorway, String> {
        let (gathered, surroundings) = self.given(flags, &[], file);
        Doorway::read(gathered, &surroundings).map_err(|mistakes| self.told(&mistakes))
    }

    /// What is told of mistakes.
    pub(crate) fn told(&self, mistakes: &Mistakes) -> String {
        mistakes.to_string().replace(&self.home(), "{}")
    }

    fn given(&self, flags: &str, vars: &[(&str, &str)], file: &str) -> (Gathered, Surroundings) {
        let mut flags = flags.replace("{}", &self.home());
        if !file.is_empty() {
            self.write("derper.toml", 0o644, &file.replace("{}", &self.home()));
            flags = format!("{flags} --config {}/derper.toml", self.home());
        }
        let mut all = Vars::from([("HOME".to_owned(), self.home())]);
        for (name, value) in vars {
            all.insert((*name).to_owned(), value.replace("{}", &self.home()));
        }
        let args = Args::parse(flags.split_whitespace().map(str::to_owned), &all)
            .expect("the flags are known");
        let surroundings = Surroundings {
            vars: all.clone(),
            is_root: self.is_root,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_600),
            memory_limit: self.memory_limit,
            file_limit: self.file_limit,
        };
        (gather(args, &all), surroundings)
    }

    pub(crate) fn good(&self, flags: &str, vars: &[(&str, &str)], file: &str) -> Config {
        self.build(flags, vars, file)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    pub(crate) fn warnings(&self, config: &Config) -> Vec<String> {
        config
            .warnings
            .iter()
            .map(|text| text.replace(&self.home(), "{}"))
            .collect()
    }
}

/// Flags that are good by themselves.
pub(crate) const GOOD: &str = "-a :8010 -c {}/derper.key";
