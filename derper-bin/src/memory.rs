//! How much memory this process may use: the limit of its control group and of those around it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are (version 2).
const ROOT: &str = "/sys/fs/cgroup";
/// Where those of memory are on older systems (version 1).
const OLD_ROOT: &str = "/sys/fs/cgroup/memory";
/// What version 1 says instead of "max" is about this, rounded to pages.
const NO_LIMIT: u64 = 1 << 62;

/// The limit in bytes, where there is one.
#[must_use]
pub fn limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let new = new_group(&own).and_then(|group| limit_in(Path::new(ROOT), "memory.max", group));
    let old = old_group(&own)
        .and_then(|group| limit_in(Path::new(OLD_ROOT), "memory.limit_in_bytes", group));
    new.into_iter().chain(old).min()
}

/// The group that a process is in by the text of its `cgroup` file: `0::/path`.
fn new_group(own: &str) -> Option<&str> {
    own.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The same of version 1: `4:memory:/path`, perhaps with other controllers beside memory.
fn old_group(own: &str) -> Option<&str> {
    own.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(":/")?;
        controllers
            .split(',')
            .any(|it| it == "memory")
            .then_some(path)
    })
}

/// The least limit, in files of this name, of a group and of all groups that it is in.
fn limit_in(root: &Path, file: &str, group: &str) -> Option<u64> {
    let mut dir: PathBuf = root.join(group);
    let mut least = None;
    while dir.starts_with(root) {
        let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
        // Without a limit the file says "max".
        if let Some(bytes) = text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT) {
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
        let limit = || limit_in(root, "memory.max", "system.slice/derper.service");
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
        assert_eq!(limit_in(root, "memory.max", ""), Some(256 << 20));
    }

    #[test]
    fn a_process_has_a_group_of_each_version() {
        let own = "9:pids:/other\n4:hugetlb,memory:/docker/relay\n0::/user.slice\n";
        assert_eq!(new_group(own), Some("user.slice"));
        assert_eq!(old_group(own), Some("docker/relay"));
        assert_eq!(new_group("4:memory:/\n"), None);
        assert_eq!(old_group("4:memory:/\n"), Some(""));
        assert_eq!(old_group("0::/memory\n"), None);
    }

    #[test]
    fn older_systems_have_groups_for_memory_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("docker/relay")).unwrap();
        let limit = || limit_in(root, "memory.limit_in_bytes", "docker/relay");
        assert_eq!(limit(), None);
        let file = root.join("docker/relay/memory.limit_in_bytes");
        fs::write(&file, "9223372036854771712\n").unwrap();
        assert_eq!(limit(), None);
        fs::write(&file, "268435456\n").unwrap();
        assert_eq!(limit(), Some(256 << 20));
    }
}
