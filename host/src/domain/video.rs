//! Ids of videos as the service that sweepd replaces took them.

use super::task::Key;

/// The id as a key; `None` where it can name no video: it is empty, the folder
/// itself or the one above, a path, has a control character, or is longer than
/// a key.
#[must_use]
pub fn key_of(id: &str) -> Option<Key> {
    let unusable = id == "." || id == ".." || id.contains(|c: char| c == '/' || c == '\\' || c.is_control());
    if unusable { None } else { Key::new(id).ok() }
}
