//! What is logged, and how.

use derp_ops::logging::{self, Format, Logging};

use super::reader::Reader;
use crate::settings::{DEBUG_LOGS, LOG_FILTER, LOG_FORMAT};

/// What the log needs for every frame to be in it.
const EVERY_FRAME: &str = "derp_server=trace";

pub(super) fn read(reader: &mut Reader<'_>) -> Logging {
    let format = reader.value(&LOG_FORMAT, |text| match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("write text or json".to_owned()),
    });
    let mut filter = reader.value(&LOG_FILTER, |text| {
        logging::check_filter(text).map_err(|_| {
            "write error, warn, info, debug or trace, or levels by module such as \
             info,derp_server=debug"
                .to_owned()
        })?;
        Ok(text.to_owned())
    });
    if reader.switch(&DEBUG_LOGS) {
        filter = format!("{filter},{EVERY_FRAME}");
    }
    Logging { format, filter }
}
