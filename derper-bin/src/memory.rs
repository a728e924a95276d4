//! How much memory this process may use: the limit of its control group and of those around it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are (version 2).
const ROOT: &str = "/sys/fs/cgroup";

/// The limit in bytes, where there is one.
#[must_use]
pub fn limit() -> Option<u64> {
    limit_in(
        Path::new(ROOT),
        &fs::read_to_string("/proc/self/cgroup").ok()?,
    )
}

/// The least limit of the group that `own` (the text of `/proc/self/cgroup`) names and of all
/// groups that it is in.
fn limit_in(root: &Path, own: &str) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut dir: PathBuf = root.join(path);
    let mut least = None;
    while dir.starts_with(root) {
        let text = fs::read_to_string(dir.join("memory.max")).unwrap_or_default();
        // Without a limit the file says "max".
        if let Ok(bytes) = text.trim().parse::<u64>() {
            least = Some(least.map_or(bytes, |least: u64| least.min(bytes)));
        }
        if !dir.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_around_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("system.slice/derper.service")).unwrap();
        let set = |group: &str, max: &str| {
            fs::write(root.join(group).join("memory.max"), format!("{max}\n")).unwrap();
        };
        let limit = || limit_in(root, "0::/system.slice/derper.service\n");
        assert_eq!(limit(), None);
        set("system.slice/derper.service", "max");
        assert_eq!(limit(), None);
        set("system.slice", "1073741824");
        assert_eq!(limit(), Some(1 << 30));
        set("system.slice/derper.service", "2147483648");
        assert_eq!(limit(), Some(1 << 30));
        set("system.slice/derper.service", "536870912");
        assert_eq!(limit(), Some(512 << 20));
        // In a container the own group is the root.
        set("", "268435456");
        assert_eq!(limit_in(root, "0::/\n"), Some(256 << 20));
        assert_eq!(
            limit_in(root, "4:memory:/user\n"),
            None,
            "version 1 is not looked at"
        );
    }
}
