//! A file system in a file, mounted: to make it read-only, and to take away its power.
//!
//! What always holds: it is unmounted when dropped; a copy of the image while it is mounted has what was synced and, of what was not,
//! nothing that is promised. Its writer must stand still meanwhile, else blocks of different moments are mixed.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// An image and where it is mounted.
pub struct Image {
    file: PathBuf,
    at: PathBuf,
    _dir: Option<TempDir>,
}

impl Image {
    /// A new, empty ext4 of so many MiB. None where this machine lets nobody make or mount one.
    pub fn make(mib: u64) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("sluicegate-image-").tempdir().expect("a temporary folder");
        let file = dir.path().join("image");
        std::fs::File::create(&file).and_then(|file| file.set_len(mib << 20)).expect("a file of ours");
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&file).output();
        made.ok().filter(|made| made.status.success())?;
        let image = Self { at: dir.path().join("mounted"), file, _dir: Some(dir) };
        std::fs::create_dir(&image.at).expect("a folder of ours");
        image.mount().then_some(image)
    }

    /// Mounts a copy at a folder beside it.
    pub fn of(file: &Path) -> Self {
        let image = Self { at: file.with_extension("mounted"), file: file.to_owned(), _dir: None };
        std::fs::create_dir(&image.at).expect("a folder of ours");
        assert!(image.mount(), "a copy of an image can be mounted");
        image
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// What would be there if the power went now.
    pub fn copy(&self, to: &Path) {
        let copied = Command::new("cp").arg("--sparse=always").arg(&self.file).arg(to).status().expect("there is cp");
        assert!(copied.success(), "an image can be copied");
    }

    /// Tells the kernel that the file system is broken: from now on it is read-only.
    pub fn break_down(&self) -> bool {
        let found = Command::new("findmnt").args(["-no", "SOURCE"]).arg(&self.at).output().expect("there is findmnt");
        let device = String::from_utf8_lossy(&found.stdout).trim().trim_start_matches("/dev/").to_owned();
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_ok()
    }

    /// Mounts it again, after a look at it.
    pub fn repair(&self) -> bool {
        let _ = Command::new("umount").arg(&self.at).output();
        let _ = Command::new("fsck.ext4").args(["-p", "-f"]).arg(&self.file).output();
        self.mount()
    }

    fn mount(&self) -> bool {
        let options = "loop,errors=remount-ro";
        let mounted = Command::new("mount").args(["-t", "ext4", "-o", options]).arg(&self.file).arg(&self.at).output();
        mounted.is_ok_and(|mounted| mounted.status.success())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.at).output().is_ok_and(|done| done.status.success());
        if !unmounted {
            drop(Command::new("umount").arg("-l").arg(&self.at).output());
        }
    }
}
