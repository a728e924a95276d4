//! What is logged, and how.

use derp_ops::logging::{self, Format, Logging};

use super::reader::Reader;
use crate::settings::{LOG_FILTER, LOG_FORMAT};

pub(super) fn read(reader: &mut Reader<'_>) -> Logging {
    let format = reader.value(&LOG_FORMAT, |text| match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("write text or json".to_owned()),
    });
    let filter = reader.value(&LOG_FILTER, |text| match logging::check_filter(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err(
            "write error, warn, info, debug or trace, or levels by module such as \
                       info,derp_server=debug"
                .to_owned(),
        ),
    });
    Logging { format, filter }
}
