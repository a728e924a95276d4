//! Runs the container's files as a container program would: in a root of their own that cannot be
//! written to, as nobody in particular, with the image's variables; and asks how it is.

mod emulated;
mod package;

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub(super) use emulated::emulated;
pub(super) use package::package;

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
    let flags = flags()?;
    let relay = Running(
        inside(&root)
            .args(&flags)
            .spawn()
            .context("cannot run unshare")?,
    );
    until_well(|| {
        let mut health = inside(&root);
        health.arg("healthcheck").args(&flags);
        health
    })?;
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

/// Flags of a relay that needs nothing, with ports of its own.
fn flags() -> Result<Vec<String>> {
    // Nobody has the port until the relay does; another process may be quicker, and is seen.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let flags = format!(
        "-a 127.0.0.1:{port} -hostname 127.0.0.1 -certmode manual -http-port -1 -stun-port 0"
    );
    Ok(flags.split(' ').map(str::to_owned).collect())
}

/// Asks again and again, until there is no error.
fn until_well(mut ask: impl FnMut() -> Command) -> Result<()> {
    for left in (0..PATIENCE).rev() {
        let answer = ask().output()?;
        if answer.status.success() {
            break;
        }
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        ensure!(left > 0, "what runs in the container is not well: {said}");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Runs the container with tailscaled: with a certificate that only root may read, a relay that is
/// not root, and a node that can be asked.
pub(super) fn with_tailscaled(context: &Path) -> Result<()> {
    const ENTER: &str = "set -e\n\
        mount --make-rprivate /\n\
        mount --bind \"$ROOT\" \"$ROOT\"\n\
        mkdir -p \"$ROOT/proc\" \"$ROOT/dev\" \"$ROOT/app\" \"$ROOT/var/lib/tailscale\" \"$ROOT/var/run\"\n\
        mount -t proc proc \"$ROOT/proc\"\n\
        mount --bind /dev \"$ROOT/dev\"\n\
        mount --bind \"$APP\" \"$ROOT/app\"\n\
        for dir in run var/run var/lib/tailscale; do mount -t tmpfs tmpfs \"$ROOT/$dir\"; done\n\
        exec chroot \"$ROOT\" /usr/bin/derper-init \"$@\"";
    let root = context.join("rootfs").canonicalize()?;
    let app = tempfile::TempDir::new()?;
    certificate(app.path())?;
    let variables = |command: &mut Command| {
        command.env_clear().stdin(Stdio::null());
        command.envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("DERPER_STATE_DIR", "/var/lib/tailscale/derper"),
            ("XDG_CACHE_HOME", "/var/lib/tailscale/derper"),
            ("HOME", "/var/lib/tailscale/derper"),
            ("DERPER_APP_DIR", "/run/derper/app"),
        ]);
    };
    let mut flags = flags()?;
    flags.push("-verify-clients".to_owned());
    let mut container = Command::new("unshare");
    variables(&mut container);
    container.args(["--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh"]);
    container
        .args(&flags)
        .env("ROOT", &root)
        .env("APP", app.path());
    let mut container = Running(container.spawn().context("cannot run unshare")?);
    let first = first_process(container.0.id())?;
    let exec = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        variables(&mut command);
        command.args(["--target", &first.to_string(), "--mount", "--pid", "--root"]);
        command.args(words);
        command
    };
    until_well(|| {
        let mut health = exec(&["/usr/bin/derper", "healthcheck"]);
        health.args(&flags);
        health
    })?;
    let status = exec(&["/usr/bin/tailscale", "status", "--json"]).output()?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(
        status.contains("\"NeedsLogin\""),
        "tailscale's status in the container: {status}"
    );
    for child in children(first)? {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm"))?;
        let user = owner(child)?;
        let wanted = if name.trim() == "derper" { 65_532 } else { 0 };
        ensure!(user == wanted, "{} runs as user {user}", name.trim());
    }
    let stopped = Command::new("kill").arg(first.to_string()).status()?;
    ensure!(stopped.success(), "the first process has gone");
    let ended = container.0.wait()?;
    ensure!(ended.success(), "the container ended with {ended}");
    println!("dist: the container with tailscaled runs, the relay in it as user 65532, and ends");
    Ok(())
}

/// A certificate of our own, for root alone.
fn certificate(folder: &Path) -> Result<()> {
    let key = folder.join("cert.key");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(folder.join("cert.crt"));
    let output = openssl.output().context("cannot run openssl")?;
    ensure!(output.status.success(), "openssl: {output:?}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// The process that `unshare` has started in namespaces of its own, once there is one that is more
/// than a shell.
fn first_process(unshare: u32) -> Result<u32> {
    for _ in 0..PATIENCE {
        for child in children(unshare)? {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm"))?;
            if name.trim() == "derper-init" {
                return Ok(child);
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("the container's first process does not start")
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let pids = children.split_whitespace().map(str::parse);
    Ok(pids.collect::<Result<_, _>>()?)
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
