//! A control group with a limit, in which a program is started.
//!
//! What always holds: it is a child of our own group, so that other limits stay; it is gone when dropped, after the program is.

use std::path::{Path, PathBuf};

/// The group.
pub struct Group {
    dir: PathBuf,
}

impl Group {
    /// One with so much memory. None where this machine lets nobody make one.
    pub fn of_memory(bytes: u64) -> Option<Self> {
        Self::with("memory", "memory.limit_in_bytes", "memory.max", &[bytes.to_string(), bytes.to_string()])
    }

    /// One with so many hundredths of a processor.
    pub fn of_processor(percent: u64) -> Option<Self> {
        let quota = percent * 1_000;
        Self::with("cpu", "cpu.cfs_quota_us", "cpu.max", &[quota.to_string(), format!("{quota} 100000")])
    }

    /// The words that start a program in it.
    pub fn starter(&self) -> Vec<String> {
        let script = format!("echo $$ >'{}' && exec \"$@\"", self.dir.join("cgroup.procs").display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// A number of it, by the first of these names that it has.
    pub fn number(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| std::fs::read_to_string(self.dir.join(name)).ok()?.trim().parse().ok())
    }

    fn with(controller: &str, first: &str, second: &str, values: &[String; 2]) -> Option<Self> {
        let name = format!("sluicegate-test-{}-{controller}", std::process::id());
        let (dir, file, value) = match first_version(controller) {
            Some(own) => (own.join(name), first, &values[0]),
            None => (Path::new("/sys/fs/cgroup").join(name), second, &values[1]),
        };
        std::fs::create_dir(&dir).ok()?;
        let group = Self { dir };
        std::fs::write(group.dir.join(file), value).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may be on its way out.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }
}

/// Our own group of a controller, where groups are of the first version.
fn first_version(controller: &str) -> Option<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1)?, parts.next()?);
        let dir = Path::new("/sys/fs/cgroup").join(controllers).join(path.trim_start_matches('/'));
        (controllers.split(',').any(|one| one == controller) && dir.is_dir()).then_some(dir)
    })
}
