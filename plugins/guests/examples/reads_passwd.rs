//! Opens an absolute path of the machine, its payload or `/etc/passwd`, as the
//! host's own functions open paths: by a name from the root, beneath whatever
//! folder it has. Its note begins with `read: ` where it could. After the word
//! `write` it opens to write instead, and the note is `written: ` or not.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let path = task.payload.as_deref().unwrap_or("/etc/passwd");
        if let Some(path) = path.strip_prefix("write ") {
            return Ok(Outcome::done_with(match open::write(path) {
                Ok(()) => "written: ".to_owned(),
                Err(error) => format!("refused: {error}"),
            }));
        }
        Ok(Outcome::done_with(match open::read(path) {
            Ok(text) => format!("read: {text}"),
            Err(error) => format!("refused: {error}"),
        }))
    }
}

sweepd_guests::runs_all!(Guest);

/// By the host's own functions: a C library makes absolute paths relative.
#[cfg(target_arch = "wasm32")]
mod open {
    use wasip2::filesystem::preopens::get_directories;
    use wasip2::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

    pub(crate) fn read(path: &str) -> Result<String, ErrorCode> {
        let (folder, _) = get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
        let file = folder.open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::READ)?;
        let (bytes, _) = file.read(200, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn write(path: &str) -> Result<(), ErrorCode> {
        let (folder, _) = get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
        let file = folder.open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::WRITE)?;
        file.write(b"changed", 0).map(drop)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod open {
    pub(crate) fn read(path: &str) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }

    pub(crate) fn write(path: &str) -> std::io::Result<()> {
        std::fs::write(path, "changed")
    }
}
