//! Certificates that are mounted for root alone, copied to where the relay may read them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use anyhow::Context;

use crate::places::{APP_DIR, RELAY_APP_DIR, RELAY_USER};

/// What other images take there.
const FILES: [&str; 2] = ["cert.crt", "cert.key"];

/// What was copied last.
#[derive(Default)]
pub(crate) struct Certificates([Option<Vec<u8>>; FILES.len()]);

impl Certificates {
    /// Copies what has changed; the relay sees it by itself. Files that are not there are left
    /// alone: the relay says what is missing.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(crate) fn copy(&mut self) -> anyhow::Result<()> {
        let (from, to) = (Path::new(APP_DIR), Path::new(RELAY_APP_DIR));
        copy(from, to, &mut self.0, &|file| {
            Ok(fchown(file, Some(RELAY_USER), Some(RELAY_USER))?)
        })
    }
}

fn copy(
    from: &Path,
    to: &Path,
    last: &mut [Option<Vec<u8>>],
    give: &dyn Fn(&File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for (name, last) in FILES.into_iter().zip(last) {
        let source = from.join(name);
        let bytes = match fs::read(&source) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == ErrorKind::NotFound => continue,
            Err(err) => return Err(err).with_context(|| format!("{}", source.display())),
        };
        if last.as_ref() == Some(&bytes) {
            continue;
        }
        let target = to.join(name);
        replace(&target, &bytes, give).with_context(|| format!("{}", target.display()))?;
        *last = Some(bytes);
    }
    Ok(())
}

/// Nobody ever sees half of it, nor does anybody but its owner read it.
fn replace(
    target: &Path,
    bytes: &[u8],
    give: &dyn Fn(&File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let next = target.with_extension("next");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    // It may be left from before, with other rights.
    file.set_permissions(Permissions::from_mode(0o600))?;
    give(&file)?;
    file.write_all(bytes)?;
    fs::rename(&next, target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_copied_for_its_owner_alone() {
        let place = tempfile::TempDir::new().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let mut last = [None, None];
        let mut copied = || {
            copy(&from, &to, &mut last, &|_| Ok(())).unwrap();
            FILES.map(|name| fs::read_to_string(to.join(name)).ok())
        };
        assert_eq!(copied(), [None, None]);

        fs::write(from.join("cert.crt"), "old").unwrap();
        fs::write(from.join("cert.key"), "key").unwrap();
        let both = |crt: &str| [Some(crt.to_owned()), Some("key".to_owned())];
        assert_eq!(copied(), both("old"));
        let mode = fs::metadata(to.join("cert.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        fs::write(from.join("cert.crt"), "new").unwrap();
        assert_eq!(copied(), both("new"));

        // What has gone stays served until there is something better.
        fs::remove_file(from.join("cert.crt")).unwrap();
        assert_eq!(copied(), both("new"));
    }
}
