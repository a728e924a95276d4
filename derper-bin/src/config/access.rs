//! Who may see the pages under `/debug/`.

use derp_ops::debug_access::{DebugAccess, parse_cidrs};
use derp_ops::secret_file;
use zeroize::Zeroizing;

use super::reader::Reader;
use crate::problem::chain;
use crate::settings::{DEBUG_CIDRS, DEBUG_IP, DEBUG_KEY};

pub(super) fn read(reader: &mut Reader<'_>) -> DebugAccess {
    let allowed_ip = reader.optional(&DEBUG_IP, |text| {
        text.trim()
            .parse()
            .map_err(|_| "not an IP address".to_owned())
    });
    let trusted = reader
        .optional(&DEBUG_CIDRS, |text| {
            parse_cidrs(text).map_err(|err| err.to_string())
        })
        .unwrap_or_default();
    DebugAccess {
        allowed_ip,
        trusted,
        key: key(reader),
    }
}

fn key(reader: &mut Reader<'_>) -> Option<Zeroizing<String>> {
    let path = reader.path(&DEBUG_KEY)?;
    let secret = match secret_file::read(&path, reader.on_open(&DEBUG_KEY)) {
        Ok(secret) => secret,
        Err(err) => {
            reader.problem(format!("{}: {}", reader.name_of(&DEBUG_KEY), chain(&err)));
            return None;
        }
    };
    reader.warn_too_open(secret.too_open);
    let key = secret.text.trim();
    if key.is_empty() {
        reader.problem(format!(
            "{}: {} is empty",
            reader.name_of(&DEBUG_KEY),
            path.display()
        ));
        return None;
    }
    Some(Zeroizing::new(key.to_owned()))
}
