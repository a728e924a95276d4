//! Runs what the Debian package holds as its unit says: by its command, with its variables, first
//! as it is installed, which nobody may use, and then as an operator has edited it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Running, owner, until_well};
use crate::shell;

const UNIT: &str = "usr/lib/systemd/system/derper.service";
const CONFIG: &str = "etc/derper/derper.toml";
/// What the unit's `ProtectSystem=strict`, `StateDirectory=` and `RuntimeDirectory=` come to.
const ENTER: &str = "set -e\n\
    mount --make-rprivate /\n\
    mount --bind \"$ROOT\" \"$ROOT\"\n\
    mount -o remount,bind,ro \"$ROOT\"\n\
    for dir in var/lib/derper run/derper; do\n\
    mount -t tmpfs -o uid=65532,gid=65532,mode=0700 tmpfs \"$ROOT/$dir\"; done\n\
    exec chroot --userspec=65532:65532 \"$ROOT\" \"$@\"";

/// Tries the package.
pub(in super::super) fn package(package: &Path) -> Result<()> {
    let place = tempfile::TempDir::new()?;
    let root = place.path().join("root");
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package).arg(&root);
    shell::run_command(&mut unpack, "dpkg-deb -x")?;
    for dir in ["var/lib/derper", "run/derper", "dev"] {
        fs::create_dir_all(root.join(dir))?;
    }
    let unit = fs::read_to_string(root.join(UNIT))?;
    let ours = fs::read_to_string(shell::root().join("deploy/systemd/derper.service"))?;
    ensure!(unit == ours, "the package's unit is another: {unit}");
    let program = values(&unit, "ExecStart=").next().context("ExecStart")?;
    // Small machines have no other program either.
    for line in values(&unit, "ExecStart=").chain(values(&unit, "ExecReload=")) {
        let named = line.split(' ').next().unwrap_or_default();
        ensure!(
            root.join(named.trim_start_matches('/')).is_file(),
            "the unit runs {named}, which is not in the package"
        );
    }
    let file = values(&unit, "EnvironmentFile=-/")
        .next()
        .context("EnvironmentFile")?;
    let file = fs::read_to_string(root.join(file))?;
    let mut variables: Vec<(&str, &str)> = file
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    variables.extend(
        values(&unit, "Environment=")
            .flat_map(str::split_whitespace)
            .filter_map(|variable| variable.split_once('=')),
    );
    let inside = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", ENTER, "sh", program]);
        command.args(words).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("ROOT", &root).envs(variables.clone());
        command
    };

    let refused = inside(&["check-config"]).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(1) && said.contains("verif"),
        "as it is installed: {refused:?}"
    );
    let config = fs::read_to_string(root.join(CONFIG))?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    fs::write(root.join(CONFIG), edited(&config, port)?)?;
    fs::write(root.join("etc/derper/nodes"), "")?;
    let relay = Running(inside(&[]).spawn().context("cannot run unshare")?);
    until_well(|| inside(&["healthcheck"]))?;
    let user = owner(relay.0.id())?;
    ensure!(user == 65_532, "the relay runs as user {user}");
    println!("dist: the package's relay refuses to start for everybody; told for whom, it is well");
    Ok(())
}

/// What a unit says behind `key`.
fn values<'u>(unit: &'u str, key: &'static str) -> impl Iterator<Item = &'u str> {
    unit.lines().filter_map(move |line| line.strip_prefix(key))
}

/// The configuration with the lines that most operators change.
fn edited(config: &str, port: u16) -> Result<String> {
    let mut config = config.to_owned();
    let edits = [
        (
            "#hostname = \"derp.example.com\"",
            "hostname = \"127.0.0.1\"",
        ),
        ("#mode = \"letsencrypt\"", "mode = \"self-signed\""),
        ("#allowlist = ", "allowlist = "),
    ];
    for (line, edit) in edits {
        ensure!(config.contains(line), "{CONFIG} does not say {line}");
        config = config.replace(line, edit);
    }
    config.push_str(&format!(
        "[listen]\naddress = \"127.0.0.1:{port}\"\nhttp_port = -1\n[stun]\nport = 0\n"
    ));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_configuration_has_the_lines_that_operators_change() {
        let path = shell::root().join("deploy/debian/derper.toml");
        let config = fs::read_to_string(path).unwrap();
        let edited = edited(&config, 8443).unwrap();
        for line in ["hostname = \"127.0.0.1\"", "required = true", "port = 0"] {
            assert!(edited.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn a_unit_says_what_stands_behind_a_key() {
        let unit = "[Service]\nEnvironment=A=1 B=2\nEnvironment=C=3\n";
        let found: Vec<&str> = values(unit, "Environment=").collect();
        assert_eq!(found, ["A=1 B=2", "C=3"]);
    }
}
