//! The files of a container: the folder that a file of `deploy/container` copies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Whom a file system without users knows: names are for people who look into the container.
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\n\
                      derper:x:65532:65532:derper:/var/lib/derper:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nderper:x:65532:\n";
/// The authorities that this machine trusts, by which the relay knows Let's Encrypt's directory and
/// admission controllers.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Fills `context` with `rootfs`, whose files are root's, and `state`, which is the relay's.
/// `programs` are known by their names in the container.
pub(super) fn fill(context: &Path, programs: &[(&str, &Path)]) -> Result<()> {
    let rootfs = context.join("rootfs");
    for dir in ["usr/bin", "etc/ssl/certs", "var/lib/derper", "run", "tmp"] {
        fs::create_dir_all(rootfs.join(dir))?;
    }
    fs::create_dir_all(context.join("state"))?;
    fs::write(rootfs.join("etc/passwd"), PASSWD)?;
    fs::write(rootfs.join("etc/group"), GROUP)?;
    let authorities = fs::read(AUTHORITIES)
        .with_context(|| format!("{AUTHORITIES}: install the package ca-certificates"))?;
    ensure!(!authorities.is_empty(), "{AUTHORITIES} is empty");
    fs::write(rootfs.join(&AUTHORITIES[1..]), authorities)?;
    for (name, from) in programs {
        let program = rootfs.join("usr/bin").join(name);
        fs::copy(from, &program).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        is_static(&program)?;
    }
    Ok(())
}

/// There is no dynamic linker in the container, nor any library: a program that asks for one, by a
/// program header of the kind `PT_INTERP`, does not start there.
fn is_static(program: &Path) -> Result<()> {
    const INTERPRETER: [u8; 4] = 3_u32.to_le_bytes();
    let bytes = fs::read(program)?;
    let name = program.display();
    ensure!(
        bytes.starts_with(b"\x7fELF\x02\x01"),
        "{name} is no program"
    );
    // Where the headers start, how long each is, and how many there are (ELF-64, little-endian).
    let number = |range: std::ops::Range<usize>| {
        let bytes = bytes.get(range).context("the program is cut off")?;
        let number = bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | usize::from(*byte));
        Ok::<_, anyhow::Error>(number)
    };
    let (start, length, count) = (
        number(0x20..0x28)?,
        number(0x36..0x38)?,
        number(0x38..0x3a)?,
    );
    let headers = bytes.get(start..).unwrap_or_default().chunks(length.max(1));
    let wants_linker = headers
        .take(count)
        .any(|header| header.starts_with(&INTERPRETER));
    ensure!(!wants_linker, "{name} is not linked statically");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_linker_is_not_for_the_container() {
        let this = std::env::current_exe().unwrap();
        let told = is_static(&this).unwrap_err().to_string();
        assert!(told.ends_with("is not linked statically"), "{told}");
    }
}
