//! How fast clients may send: each of them, each group, and all together.

use derp_server::{GroupRates, Tunables};
use derp_verify::RateLimit;

use super::reader::{Reader, parse_size};
use crate::problem::chain;
use crate::rate_config::{self, MIN_BURST};
use crate::settings::{
    CLIENT_BURST, CLIENT_RATE, GROUP_RATES, RATE_CONFIG, Setting, TOTAL_BURST, TOTAL_RATE,
};

/// What stands for every group that is not named.
const OTHERS: &str = "*";

pub(super) fn read(reader: &mut Reader<'_>, tunables: &mut Tunables) {
    tunables.client_rate = of_each_client(reader);
    tunables.group_rates = of_groups(reader);
    tunables.total_rate = of_all(reader);
}

/// What each client may send, by the reference's file or by our keys.
fn of_each_client(reader: &mut Reader<'_>) -> Option<RateLimit> {
    let ours = [&CLIENT_RATE, &CLIENT_BURST]
        .into_iter()
        .find_map(|setting| reader.given(setting));
    let bytes_per_second = reader.size(&CLIENT_RATE, 1);
    let burst_bytes = reader.size(&CLIENT_BURST, MIN_BURST).unwrap_or(MIN_BURST);
    if let Some(path) = reader.path(&RATE_CONFIG) {
        let theirs = reader.name_of(&RATE_CONFIG);
        if let Some(ours) = ours {
            reader.problem(format!(
                "{theirs} and {} both limit what a client may send; remove one of them",
                ours.origin
            ));
        }
        return match rate_config::load(&path) {
            Ok(Some(rate)) => Some(rate),
            Ok(None) => {
                reader.warn(format!(
                    "{theirs}: {} limits nothing: PerClientRateLimitBytesPerSec is 0 or not there",
                    path.display()
                ));
                None
            }
            Err(err) => {
                reader.problem(format!("{theirs}: {}", chain(&err)));
                None
            }
        };
    }
    needs_rate(reader, &CLIENT_RATE, &CLIENT_BURST);
    bytes_per_second.map(|bytes_per_second| RateLimit {
        bytes_per_second,
        burst_bytes,
    })
}

fn of_all(reader: &mut Reader<'_>) -> Option<RateLimit> {
    let bytes_per_second = reader.size(&TOTAL_RATE, 1);
    let burst_bytes = reader.size(&TOTAL_BURST, MIN_BURST).unwrap_or(MIN_BURST);
    needs_rate(reader, &TOTAL_RATE, &TOTAL_BURST);
    bytes_per_second.map(|bytes_per_second| RateLimit {
        bytes_per_second,
        burst_bytes,
    })
}

fn needs_rate(reader: &mut Reader<'_>, rate: &'static Setting, burst: &'static Setting) {
    if reader.given(rate).is_none() && reader.given(burst).is_some() {
        let rate = rate.name();
        let what = format!("it means nothing without {rate}; set that too");
        reader.reject(burst, what);
    }
}

fn of_groups(reader: &mut Reader<'_>) -> GroupRates {
    let mut rates = GroupRates::default();
    for entry in reader.list(&GROUP_RATES) {
        match group_rate(&entry) {
            Ok((OTHERS, rate)) if rates.others.is_none() => rates.others = Some(rate),
            Ok((name, rate)) if name != OTHERS && !rates.named.contains_key(name) => {
                rates.named.insert(name.to_owned(), rate);
            }
            Ok((name, _)) => reader.reject(
                &GROUP_RATES,
                format!("{name:?} has two limits; remove one of them"),
            ),
            Err(what) => reader.reject(&GROUP_RATES, format!("{entry:?} {what}")),
        }
    }
    rates
}

/// `NAME=RATE` or `NAME=RATE:BURST`.
fn group_rate(entry: &str) -> Result<(&str, RateLimit), String> {
    let how = "write GROUP=BYTES, such as friends=10MiB, or GROUP=BYTES:BURST, and * for every \
        other group";
    // A name may hold what separates, for whoever names groups is another program.
    let (name, rate) = entry
        .rsplit_once('=')
        .ok_or_else(|| format!("sets no limit; {how}"))?;
    let (name, rate) = (name.trim(), rate.trim());
    let (rate, burst) = rate
        .split_once(':')
        .map_or((rate, None), |(rate, burst)| (rate, Some(burst)));
    let size = |text: &str| {
        parse_size(text.trim())
            .ok_or_else(|| format!("holds {text:?}, which is no number of bytes; {how}"))
    };
    let bytes_per_second = size(rate)?;
    let burst_bytes = burst.map_or(Ok(MIN_BURST), size)?;
    if name.is_empty() {
        return Err(format!("names no group; {how}"));
    }
    if bytes_per_second == 0 {
        return Err("lets the group send nothing; give at least 1, or remove it".to_owned());
    }
    if burst_bytes < MIN_BURST {
        return Err(format!(
            "has a burst that is too small; give at least {MIN_BURST}"
        ));
    }
    let rate = RateLimit {
        bytes_per_second,
        burst_bytes,
    };
    Ok((name, rate))
}
