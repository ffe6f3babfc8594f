//! Guests that the host's tests run: real components, one misdeed each. Every
//! file in `examples/` is one; `cargo xtask plugins` builds them, and
//! `cargo xtask tidy` refuses one that no test names.
//!
//! Here is only what several of them share.

use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes a component of the world `job` of an executor, whose dispatcher runs
/// everything.
#[macro_export]
macro_rules! runs_all {
    ($policy:ty) => {
        impl sweepd_sdk::Dispatcher for $policy {}
        sweepd_sdk::job!($policy);
    };
}

/// What became of an attempt: `name: ok` or `name: the system's words`.
pub fn said<T, E: Display>(name: &str, result: Result<T, E>) -> String {
    match result {
        Ok(_) => format!("{name}: ok"),
        Err(error) => format!("{name}: {error}"),
    }
}

/// Milliseconds since the Unix epoch, by the clock that the host gives.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// WASI's own file calls, without the C library between: it resolves paths and
/// keeps descriptors in ways of its own.
#[cfg(target_arch = "wasm32")]
pub mod files {
    pub use wasip2::filesystem::preopens::get_directories;
    pub use wasip2::filesystem::types::{
        Descriptor, DescriptorFlags, DescriptorStat, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
    };

    /// A new descriptor of the top of the first mount.
    ///
    /// # Panics
    ///
    /// Without a mount.
    #[must_use]
    pub fn top() -> Descriptor {
        get_directories().swap_remove(0).0
    }

    /// `ok`, or the code as the contract writes it.
    pub fn code<T>(result: &Result<T, ErrorCode>) -> &'static str {
        result.as_ref().map_or_else(ErrorCode::name, |_| "ok")
    }

    /// Opens something in `folder`, without following a link at its end.
    pub fn open(folder: &Descriptor, path: &str, how: OpenFlags, to: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
        folder.open_at(PathFlags::empty(), path, how, to)
    }

    /// The beginning of a file, as text.
    pub fn read(folder: &Descriptor, path: &str) -> Result<String, ErrorCode> {
        let file = folder.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ)?;
        file.read(100, 0).map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first name in a folder.
    pub fn list(folder: &Descriptor, path: &str) -> Result<String, ErrorCode> {
        let found = folder.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
        let entry = found.read_directory()?.read_directory_entry()?;
        Ok(entry.map_or_else(String::new, |entry| entry.name))
    }
}
