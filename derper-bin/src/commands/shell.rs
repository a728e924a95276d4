//! Completions and the manual page, both made from what the command line is made from.

use clap_complete::Shell;

use crate::args::{PROGRAM, clap_command};

/// The script for `shell`.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut clap_command(), PROGRAM.program, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page, as roff.
pub(super) fn man() -> std::io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(clap_command()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_of_every_long_flag() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = completions(shell);
            for flag in ["hostname", "verify-clients", "config"] {
                assert!(script.contains(flag), "{shell}: {flag}");
            }
        }
    }

    #[test]
    fn the_manual_page_explains_flags_and_commands() {
        let page = man().unwrap();
        assert!(page.starts_with(".ie \\n(.g .ds Aq"), "{page}");
        for part in ["http\\-port", "DERP_HTTP_PORT", "quickstart"] {
            assert!(page.contains(part), "{part}");
        }
    }
}
