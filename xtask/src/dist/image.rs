//! A container image as a tar of the OCI image layout, which `docker load`, `podman load`, `skopeo`
//! and `umoci` take. The settings are those of the files in `deploy/container`, read from them.
//!
//! The same files give the same bytes: times are zero, and names are sorted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::sha256;
use crate::shell;

/// Whom the relay's own directory belongs to.
const USER: &str = "65532:65532";

/// An image's settings: the file that has them, and as whom its first process runs.
#[derive(Debug)]
pub(super) struct Recipe {
    containerfile: &'static str,
    user: &'static str,
}

/// The relay, and nothing else.
pub(super) const ALONE: Recipe = Recipe {
    containerfile: "deploy/container/Containerfile",
    user: USER,
};
/// The relay with a tailscaled that it asks.
pub(super) const WITH_TAILSCALED: Recipe = Recipe {
    containerfile: "deploy/container/Containerfile.tailscaled",
    user: "0:0",
};

/// Writes the image with the files of `context` beside the folder `layout`; the tar's path.
pub(super) fn write(
    recipe: &Recipe,
    context: &Path,
    layout: &Path,
    architecture: &str,
) -> Result<PathBuf> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = layout.join("layer.tar");
    let rootfs = context.join("rootfs");
    tar(
        &layer,
        &rootfs,
        "0:0",
        "-cf",
        &[".", "--exclude=./var/lib/derper"],
    )?;
    tar(&layer, &rootfs, USER, "-rf", &["./var/lib/derper"])?;
    let diff_id = sha256(&fs::read(&layer)?);
    run("gzip", Command::new("gzip").args(["-n", "-9"]).arg(&layer))?;
    let layer = layout.join("layer.tar.gz");
    let layer = keep(
        &blobs,
        &fs::read(&layer)?,
        "application/vnd.oci.image.layer.v1.tar+gzip",
        Some(&layer),
    )?;

    let settings = recipe.settings()?;
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": settings,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    });
    let kind = "application/vnd.oci.image.config.v1+json";
    let config = keep(&blobs, config.to_string().as_bytes(), kind, None)?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer],
    });
    let mut manifest = keep(&blobs, manifest.to_string().as_bytes(), kind, None)?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string())?;
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    fs::write(layout.join("oci-layout"), version.to_string())?;
    let image = layout.with_extension("tar");
    tar(&image, layout, "0:0", "-cf", &["."])?;
    Ok(image)
}

/// Keeps a blob by its digest; its descriptor. `from` is where it was, and goes.
fn keep(blobs: &Path, bytes: &[u8], kind: &str, from: Option<&Path>) -> Result<Value> {
    let digest = sha256(bytes);
    fs::write(blobs.join(&digest), bytes)?;
    if let Some(from) = from {
        fs::remove_file(from)?;
    }
    Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
}

/// Packs parts of `folder`; `how` makes a tar or adds to one.
fn tar(to: &Path, folder: &Path, owner: &str, how: &str, parts: &[&str]) -> Result<()> {
    let (user, group) = owner.split_once(':').context("USER:GROUP")?;
    let mut command = Command::new("tar");
    command
        .args(["--format=ustar", "--sort=name", "--numeric-owner"])
        .args(["--mtime=@0", "--mode=u+rwX,go=rX"])
        .arg(format!("--owner={user}"))
        .arg(format!("--group={group}"))
        .arg("-C")
        .arg(folder);
    // An exclusion counts for the names after it.
    let (rules, names): (Vec<&str>, Vec<&str>) =
        parts.iter().partition(|part| part.starts_with("--"));
    command.args(rules).arg(how).arg(to).args(names);
    run("tar", &mut command)
}

fn run(name: &str, command: &mut Command) -> Result<()> {
    shell::run_command(command, name)
}

impl Recipe {
    fn settings(&self) -> Result<Value> {
        let settings = settings(&fs::read_to_string(shell::root().join(self.containerfile))?)?;
        ensure!(
            settings["User"] == self.user,
            "the image's user has changed"
        );
        Ok(settings)
    }
}

/// What the image's configuration says, from the lines of a Containerfile.
fn settings(containerfile: &str) -> Result<Value> {
    let text = containerfile.replace("\\\n", " ");
    let mut config = json!({ "Env": [], "ExposedPorts": {}, "Volumes": {} });
    for line in text.lines() {
        let Some((word, rest)) = line.split_once(' ') else {
            continue;
        };
        match word {
            "ENV" => config["Env"] = rest.split_whitespace().collect(),
            "USER" => config["User"] = rest.into(),
            "ENTRYPOINT" => config["Entrypoint"] = serde_json::from_str(rest)?,
            "STOPSIGNAL" => config["StopSignal"] = rest.into(),
            "VOLUME" => {
                for volume in serde_json::from_str::<Vec<String>>(rest)? {
                    config["Volumes"][volume] = json!({});
                }
            }
            "EXPOSE" => {
                for port in rest.split_whitespace() {
                    config["ExposedPorts"][port] = json!({});
                }
            }
            "HEALTHCHECK" => config["Healthcheck"] = health(rest)?,
            _ => {}
        }
    }
    Ok(config)
}

/// Docker's own extension of the format: others ignore it.
fn health(rest: &str) -> Result<Value> {
    let (options, command) = rest.split_once(" CMD ").context("HEALTHCHECK … CMD […]")?;
    let command: Vec<String> = serde_json::from_str(command)?;
    let test: Vec<String> = std::iter::once("CMD".to_owned()).chain(command).collect();
    let mut health = json!({ "Test": test });
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=').context("--NAME=VALUE")?;
        let seconds = value.strip_suffix('s').and_then(|n| n.parse::<u64>().ok());
        let nanoseconds = || Ok::<_, anyhow::Error>(seconds.context("seconds")? * 1_000_000_000);
        match name {
            "--interval" => health["Interval"] = nanoseconds()?.into(),
            "--timeout" => health["Timeout"] = nanoseconds()?.into(),
            "--start-period" => health["StartPeriod"] = nanoseconds()?.into(),
            "--retries" => health["Retries"] = value.parse::<u64>()?.into(),
            _ => anyhow::bail!("HEALTHCHECK {name} is not known"),
        }
    }
    Ok(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_what_the_containerfile_says() {
        assert_eq!(
            ALONE.settings().unwrap(),
            json!({
                "Env": [
                    "DERPER_STATE_DIR=/var/lib/derper", "XDG_CACHE_HOME=/var/lib/derper",
                    "HOME=/var/lib/derper", "DERPER_APP_DIR=/app",
                ],
                "User": "65532:65532",
                "Volumes": { "/var/lib/derper": {} },
                "ExposedPorts": { "80/tcp": {}, "443/tcp": {}, "3478/udp": {} },
                "StopSignal": "SIGTERM",
                "Entrypoint": ["/usr/bin/derper"],
                "Healthcheck": {
                    "Test": ["CMD", "/usr/bin/derper", "healthcheck"],
                    "Interval": 30_000_000_000_u64, "Timeout": 5_000_000_000_u64,
                    "StartPeriod": 60_000_000_000_u64, "Retries": 3,
                },
            })
        );
    }

    #[test]
    fn the_image_with_tailscaled_keeps_the_relay_s_things_in_its_volume() {
        let settings = WITH_TAILSCALED.settings().unwrap();
        assert_eq!(settings["Volumes"], json!({ "/var/lib/tailscale": {} }));
        assert_eq!(settings["Entrypoint"], json!(["/usr/bin/derper-init"]));
        let state = json!("DERPER_STATE_DIR=/var/lib/tailscale/derper");
        let variables = settings["Env"].as_array().unwrap();
        assert!(variables.contains(&state), "{variables:?}");
    }
}
