//! `derper derpmap`: what to paste where, so that a tailnet uses this relay.

use crate::args::MapFormat;
use crate::config::Config;

pub(super) fn print(config: &Config, format: MapFormat) -> anyhow::Result<String> {
    let hint = super::hint(config)?;
    let mut text = match format {
        MapFormat::All => hint.instructions(),
        MapFormat::Tailscale => hint.policy_json(),
        MapFormat::Headscale => hint.headscale_yaml(),
        MapFormat::Node => hint.node_json(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
