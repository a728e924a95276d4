//! Lists of keys in files. They are read here, so that a bad line is a mistake in the
//! configuration; following the files is the running relay's part.

use std::path::PathBuf;
use std::sync::Arc;

use derp_verify::{Allowlist, AllowlistError, Denylist};

use crate::config::reader::Reader;
use crate::problem::chain;
use crate::settings::{ALLOWLIST, DENYLIST, Setting};

/// Who is on which list.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    /// Whom the list of the relay's own admits, if there is one.
    pub allow: Option<Arc<Allowlist>>,
    /// Whom nobody admits.
    pub deny: Option<Arc<Denylist>>,
}

impl Lists {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            allow: list(reader, &ALLOWLIST, Allowlist::from_file),
            deny: list(reader, &DENYLIST, Denylist::from_file),
        }
    }
}

fn list<L>(
    reader: &mut Reader<'_>,
    setting: &Setting,
    read: impl FnOnce(PathBuf) -> Result<L, AllowlistError>,
) -> Option<Arc<L>> {
    match read(reader.path(setting)?) {
        Ok(list) => Some(Arc::new(list)),
        Err(err) => {
            reader.problem(format!("{}: {}", reader.name_of(setting), chain(&err)));
            None
        }
    }
}
