//! Where things are in the container, and how the two programs are called.

use std::env;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// As whom the relay runs: nobody else is that.
pub(crate) const RELAY_USER: u32 = 65_532;
/// Where people mount `cert.crt` and `cert.key`.
pub(crate) const APP_DIR: &str = "/app";
/// Where the relay finds them: the image's `DERPER_APP_DIR`.
pub(crate) const RELAY_APP_DIR: &str = "/run/derper/app";
/// The volume. People have it from other images, with a node's state in it.
const VOLUME: &str = "/var/lib/tailscale";
/// What of it is the relay's: the image's `DERPER_STATE_DIR`.
const RELAY_STATE: &str = "/var/lib/tailscale/derper";
/// The volume's other name. tailscaled takes everybody's rights away from a directory that is
/// called tailscale, and the relay's is in it.
const NODE_STATE: &str = "/run/derper/node";
const SOCKET_DIR: &str = "/var/run/tailscale";
const SOCKET: &str = "/var/run/tailscale/tailscaled.sock";
/// With it, tailscaled makes a network interface; without, it needs no rights.
const USERSPACE: &str = "TS_USERSPACE";
const TAILSCALED_ARGS: &str = "TS_TAILSCALED_EXTRA_ARGS";

/// Makes what is missing, and gives the relay what is its own.
///
/// # Errors
/// The system refuses, and says about which path.
pub(crate) fn prepare() -> anyhow::Result<()> {
    for dir in [VOLUME, RELAY_STATE, RELAY_APP_DIR, SOCKET_DIR] {
        fs::create_dir_all(dir).with_context(|| dir.to_owned())?;
    }
    for dir in [RELAY_STATE, RELAY_APP_DIR] {
        chown(dir, Some(RELAY_USER), Some(RELAY_USER)).with_context(|| dir.to_owned())?;
        mode(dir, 0o700)?;
    }
    // Others may pass through and not look around; what a node keeps there is its own.
    mode(VOLUME, 0o711)?;
    match symlink(VOLUME, NODE_STATE) {
        Err(err) if err.kind() != ErrorKind::AlreadyExists => {
            Err(err).with_context(|| NODE_STATE.to_owned())
        }
        _ => Ok(()),
    }
}

fn mode(path: &str, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(Path::new(path), Permissions::from_mode(mode))
        .with_context(|| path.to_owned())
}

/// The node that knows the tailnet.
pub(crate) fn tailscaled() -> Command {
    let mut command = Command::new("/usr/bin/tailscaled");
    command.arg(format!("--statedir={NODE_STATE}"));
    command.arg(format!("--socket={SOCKET}"));
    // A relay's node carries no traffic: it only has to see the others.
    if env::var(USERSPACE).as_deref() != Ok("false") {
        command.arg("--tun=userspace-networking");
    }
    let more = env::var(TAILSCALED_ARGS).unwrap_or_default();
    command.args(more.split_whitespace());
    command
}

/// The relay, which is not root.
pub(crate) fn relay() -> Command {
    let mut command = Command::new("/usr/bin/derper");
    command.args(env::args_os().skip(1));
    command.uid(RELAY_USER).gid(RELAY_USER);
    command
}
