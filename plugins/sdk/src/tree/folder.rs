//! An open folder, and what can be done to a name in it. So a tree can be gone
//! through that is deeper than any path can say.
//!
//! In a component these are calls of `wasi:filesystem` itself: the C library beneath
//! `std::fs` reads a folder from its beginning again whenever another one was read in
//! between. Natively, for tests, they are system calls.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(any(target_family = "wasm", test))]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "natively it is only compiled"))]
mod wasi;

#[cfg(not(target_family = "wasm"))]
pub(super) use native::Folder;
#[cfg(target_family = "wasm")]
pub(super) use wasi::Folder;

/// What a folder lists.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name in the folder.
    pub(super) name: String,
    /// Whether it is a folder, as far as the listing tells.
    pub(super) is_folder: bool,
}
