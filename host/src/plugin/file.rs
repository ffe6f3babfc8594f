//! Reads a plugin's file, which somebody may be writing at the time, and whose
//! server may be dead. All who take a component from a file read it here: the
//! host, a plan and an inspection.

use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Access, Mode, OFlags, access};

use crate::answers::{Steps, answered_in_steps};
use crate::domain::digest::Digest;
use crate::sandbox::wall;

use super::blame;
use super::compile::MAX_COMPONENT;
use super::watch::Stamp;

/// A file that changes while it is read is read again, so often.
const READS: usize = 5;
/// So much is read at once: so much must come before the patience is over.
const PART: u64 = 256 << 10;

/// A component's file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unreadable {
    /// Why, in words, without the path.
    why: String,
    /// Whether the same file may be readable later.
    pub(super) may_pass: bool,
}

impl Unreadable {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_pass: false }
    }

    fn of(file: &Path, error: &io::Error) -> Self {
        let hint = wall::hint(file, error);
        let denied = error.kind() == io::ErrorKind::PermissionDenied && access(file, Access::READ_OK).is_err();
        let own = if denied {
            let user = rustix::process::geteuid().as_raw();
            format!("; who runs sweepd (user {user}) may not read it: chmod a+r, and a+x for its folders")
        } else {
            String::new()
        };
        Self { why: format!("{error}{hint}{own}"), may_pass: blame::is_the_machines(error) }
    }
}

/// The content of a component's file: whole, unchanged while it was read, and no
/// larger than a component may be. An error also where the file is none, such as a
/// pipe or a device, and where it does not answer. Dropped, it leaves at most a
/// thread that waits for a server.
pub async fn read_component(file: &Path) -> Result<Vec<u8>, Unreadable> {
    let path = file.to_owned();
    let read = answered_in_steps(file, move |steps| read(&path, steps)).await;
    read.unwrap_or_else(|silent| Err(Unreadable { why: silent.why, may_pass: true }))
}

/// The file's content, where it is this very component.
pub(super) async fn read_only(file: &Path, digest: Digest) -> Option<Vec<u8>> {
    read_component(file).await.ok().filter(|bytes| Digest::of(bytes) == digest)
}

fn read(file: &Path, steps: &Steps) -> Result<Vec<u8>, Unreadable> {
    let told = |error: io::Error| Unreadable::of(file, &error);
    for _ in 0..READS {
        // Not waiting for whoever would write into a named pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = rustix::fs::open(file, flags, Mode::empty()).map_err(|error| told(error.into()))?;
        let mut open = std::fs::File::from(open);
        let before = open.metadata().map_err(told)?;
        if !before.is_file() {
            return Err(Unreadable::new("is not a regular file"));
        }
        if before.len() > MAX_COMPONENT {
            return Err(Unreadable::new(format!(
                "is larger than {MAX_COMPONENT} bytes, the most that a component has"
            )));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0) + 1);
        loop {
            let part = open.by_ref().take(PART).read_to_end(&mut bytes).map_err(told)?;
            if part == 0 || bytes.len() as u64 > MAX_COMPONENT {
                break;
            }
            if !steps.go_on() {
                return Err(Unreadable::new("is not waited for any more"));
            }
        }
        let after = open.metadata().map_err(told)?;
        if Stamp::of(&before) == Stamp::of(&after) && bytes.len() as u64 == after.len() {
            return Ok(bytes);
        }
    }
    Err(Unreadable::new("changes while it is read; it is tried again when it rests"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[tokio::test]
    async fn what_is_no_file_of_a_component_is_neither_read_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let sparse = folder.path().join("sparse");
        File::create(&sparse).unwrap().set_len(7 << 30).unwrap();
        let just_too_large = folder.path().join("large");
        File::create(&just_too_large).unwrap().set_len(MAX_COMPONENT + 1).unwrap();
        for (file, why) in [
            (pipe.as_path(), "is not a regular file"),
            (Path::new("/dev/zero"), "is not a regular file"),
            (folder.path(), "is not a regular file"),
            (&sparse, "is larger than 268435456 bytes"),
            (&just_too_large, "is larger than 268435456 bytes"),
            (Path::new("/no/such/file"), "No such file"),
        ] {
            let refused = read_component(file).await.unwrap_err();
            assert!(refused.to_string().contains(why) && !refused.may_pass, "{}: {refused}", file.display());
        }
        let good = folder.path().join("good");
        fs::write(&good, vec![7; 600_000]).unwrap();
        assert_eq!(read_component(&good).await.unwrap(), vec![7; 600_000], "in several parts");
    }
}
