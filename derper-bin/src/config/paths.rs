//! Where files are when nobody says: the conventions of systemd, XDG and the reference.

use std::path::PathBuf;

use super::Surroundings;

/// Set in our container images alone: where other images of the reference keep their files, which
/// people mount there.
const APP_DIR: &str = "DERPER_APP_DIR";

impl Surroundings {
    fn var(&self, name: &str) -> Option<&str> {
        self.vars
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A directory from a variable. XDG wants relative ones ignored.
    fn dir(&self, name: &str) -> Option<PathBuf> {
        self.var(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    }

    pub(super) fn home(&self) -> Option<PathBuf> {
        self.dir("HOME")
    }

    /// `cert.crt` and `cert.key` as some images take them, where they are mounted.
    pub(super) fn mounted_cert(&self) -> Option<(PathBuf, PathBuf)> {
        let app = self.dir(APP_DIR)?;
        let (cert, key) = (app.join("cert.crt"), app.join("cert.key"));
        // One of them alone is a mistake, which is told when both are read.
        (cert.exists() || key.exists()).then_some((cert, key))
    }

    /// Where the reference keeps certificates: Go's `os.UserCacheDir` and a folder in it; in our
    /// containers, the folder that images mount, if somebody has mounted it.
    pub(super) fn cert_dir(&self) -> Option<PathBuf> {
        let mounted = self.dir(APP_DIR).map(|app| app.join("certs"));
        if let Some(mounted) = mounted.filter(|dir| dir.is_dir()) {
            return Some(mounted);
        }
        let cache = self
            .dir("XDG_CACHE_HOME")
            .or_else(|| Some(self.home()?.join(".cache")))?;
        Some(cache.join("tailscale/derper-certs"))
    }

    /// Where our own modes keep what must survive a restart.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        // systemd gives a list; the first is the unit's own.
        if let Some(dirs) = self.var("STATE_DIRECTORY") {
            return dirs.split(':').next().map(PathBuf::from);
        }
        if self.is_root {
            return Some("/var/lib/derper".into());
        }
        let state = self
            .dir("XDG_STATE_HOME")
            .or_else(|| Some(self.home()?.join(".local/state")))?;
        Some(state.join("derper"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;

    fn surroundings(vars: &[(&str, &str)], is_root: bool) -> Surroundings {
        let vars = vars
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Surroundings {
            vars: vars.collect(),
            is_root,
            now: SystemTime::UNIX_EPOCH,
            memory_limit: None,
            file_limit: None,
        }
    }

    #[test]
    fn state_is_kept_where_the_machine_keeps_it() {
        type Case<'a> = (&'a [(&'a str, &'a str)], bool, Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (
                &[("HOME", "/home/u")],
                false,
                Some("/home/u/.local/state/derper"),
            ),
            (
                &[("HOME", "/home/u"), ("XDG_STATE_HOME", "/s")],
                false,
                Some("/s/derper"),
            ),
            (
                &[("HOME", "/home/u"), ("XDG_STATE_HOME", "s")],
                false,
                Some("/home/u/.local/state/derper"),
            ),
            (&[("HOME", "/root")], true, Some("/var/lib/derper")),
            (
                &[("STATE_DIRECTORY", "/var/lib/x:/y")],
                true,
                Some("/var/lib/x"),
            ),
            (&[("HOME", "")], false, None),
            (&[], false, None),
        ];
        for (vars, is_root, dir) in cases {
            let found = surroundings(vars, *is_root).state_dir();
            assert_eq!(found.as_deref(), dir.map(Path::new), "{vars:?}");
        }
    }

    #[test]
    fn certificates_are_where_the_reference_keeps_them() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (
                &[("HOME", "/home/u")],
                Some("/home/u/.cache/tailscale/derper-certs"),
            ),
            (
                &[("HOME", "/home/u"), ("XDG_CACHE_HOME", "/c")],
                Some("/c/tailscale/derper-certs"),
            ),
            (&[], None),
        ];
        for (vars, dir) in cases {
            let found = surroundings(vars, false).cert_dir();
            assert_eq!(found.as_deref(), dir.map(Path::new), "{vars:?}");
        }
    }
}
