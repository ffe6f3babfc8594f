//! Small file systems of a test's own, which it may fill. Mounting takes root.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

/// A mounted file system; unmounted when dropped, whoever still uses it.
pub(crate) struct SmallDisk {
    at: PathBuf,
    /// What the loop device shows, for file systems that need a device.
    #[allow(dead_code, reason = "held, not read: it goes with the mount")]
    image: Option<NamedTempFile>,
}

impl SmallDisk {
    /// In memory, with these options of tmpfs.
    pub(crate) fn tmpfs(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", text(at)]);
        Self { at: at.to_owned(), image: None }
    }

    /// ext4, which writes again in place. No blocks are kept for root.
    pub(crate) fn ext4(at: &Path, size: u64) -> Self {
        Self::on_a_loop(at, size, "mkfs.ext4", &["-q", "-F", "-m", "0"])
    }

    /// btrfs, which writes each new version of a page elsewhere.
    pub(crate) fn btrfs(at: &Path, size: u64) -> Self {
        Self::on_a_loop(at, size, "mkfs.btrfs", &["-q", "-f"])
    }

    fn on_a_loop(at: &Path, size: u64, make: &str, options: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        run(make, &[options, &[text(image.path())]].concat());
        run("mount", &["-o", "loop", text(image.path()), text(at)]);
        Self { at: at.to_owned(), image: Some(image) }
    }

    /// Changes the options of a tmpfs.
    pub(crate) fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), text(&self.at)]);
    }

    /// Fills it to the last byte, by files called `fill-…`.
    pub(crate) fn fill(&self) {
        for (round, size) in [1 << 20, 4096, 1, 1].into_iter().enumerate() {
            // What the disk frees or sets aside late is filled in a later round.
            run("sync", &["-f", text(&self.at)]);
            let Ok(mut file) = File::create(self.at.join(format!("fill-{round}-{size}"))) else { continue };
            let bytes = vec![7; size];
            while file.write_all(&bytes).is_ok() {}
        }
        assert!(self.write(4096).is_err_and(|error| error.kind() == io::ErrorKind::StorageFull), "it is full");
    }

    /// Takes all inodes, by empty files called `fill-…`.
    pub(crate) fn fill_inodes(&self) {
        let full = (0..1_000_000).find_map(|number| File::create(self.at.join(format!("fill-{number}"))).err());
        assert_eq!(full.expect("it is full").kind(), io::ErrorKind::StorageFull);
    }

    /// Removes what filled it.
    pub(crate) fn empty(&self) {
        for entry in fs::read_dir(&self.at).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("fill-") {
                fs::remove_file(path).unwrap();
            }
        }
        run("sync", &["-f", text(&self.at)]);
    }

    /// Writes a file of this size and removes it again.
    pub(crate) fn write(&self, size: usize) -> io::Result<()> {
        let path = self.at.join("written");
        let written = fs::write(&path, vec![7; size]).and_then(|()| File::open(&path)?.sync_all());
        let _ = fs::remove_file(path);
        written
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask test` installs it, as root"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}; mounting takes root");
}
