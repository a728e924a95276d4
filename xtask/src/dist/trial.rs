//! Runs the container's files as a container program would: in a root of their own that cannot be
//! written to, as nobody in particular, with the image's variables; and asks how it is.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Mounts the root where nobody else sees it, with a writable state, and becomes the program.
const ENTER: &str = "set -e\n\
    mount --make-rprivate /\n\
    mount --bind \"$ROOT\" \"$ROOT\"\n\
    mount -o remount,bind,ro \"$ROOT\"\n\
    mount -t tmpfs -o uid=65532,gid=65532,mode=0700 tmpfs \"$ROOT/var/lib/derper\"\n\
    exec chroot --userspec=65532:65532 \"$ROOT\" /usr/bin/derper \"$@\"";

/// How many times it is asked, a fifth of a second apart, before it has failed to start.
const PATIENCE: usize = 100;

pub(super) fn run(context: &Path) -> Result<()> {
    let root = context.join("rootfs").canonicalize()?;
    // Nobody has both ports until the relay does; another process may be quicker, and is seen.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let address = format!("127.0.0.1:{port}");
    let flags = [
        "-a",
        &address,
        "-hostname",
        "127.0.0.1",
        "-certmode",
        "manual",
    ];
    let flags: Vec<&str> = flags
        .into_iter()
        .chain(["-http-port", "-1", "-stun-port", "0"])
        .collect();
    let relay = Running(
        inside(&root)
            .args(&flags)
            .spawn()
            .context("cannot run unshare")?,
    );
    for left in (0..PATIENCE).rev() {
        let health = inside(&root).arg("healthcheck").args(&flags).output()?;
        if health.status.success() {
            break;
        }
        let said = String::from_utf8_lossy(&health.stderr).into_owned();
        ensure!(left > 0, "the relay in the container is not well: {said}");
        thread::sleep(Duration::from_millis(200));
    }
    let user = owner(relay.0.id())?;
    ensure!(user == 65_532, "the relay runs as user {user}");
    drop(relay);
    let health = inside(&root).arg("healthcheck").args(&flags).output()?;
    ensure!(
        health.status.code() == Some(1),
        "a relay that is gone is well: {health:?}"
    );
    println!("dist: the relay runs in the container's files as user 65532, read-only, and is well");
    Ok(())
}

/// The relay's program in its own root.
fn inside(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", ENTER, "derper"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("ROOT", root)
        .envs([
            ("DERPER_STATE_DIR", "/var/lib/derper"),
            ("XDG_CACHE_HOME", "/var/lib/derper"),
            ("HOME", "/var/lib/derper"),
            ("DERPER_APP_DIR", "/app"),
        ])
        .stdin(Stdio::null());
    command
}

/// As whom a process runs.
fn owner(pid: u32) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("Uid:"));
    let id = line.and_then(|line| line.split_whitespace().nth(1));
    id.and_then(|id| id.parse().ok()).context("no Uid")
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}
