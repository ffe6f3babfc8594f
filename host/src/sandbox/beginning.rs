//! Room for a host that starts on a full disk: what it needs to begin, it keeps
//! there while it runs. A state folder of an older version, or one that was
//! restored, has none of that yet.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::disk;

/// What the journal and the database want to begin with, in bytes.
const WANTED: u64 = 5 << 20;

/// Removes the compiled components from the cache where the disk of the state
/// folder is full and nothing is kept there for that. They are compiled anew,
/// and without them the host can do what frees the disk.
pub(crate) fn make_room_to_begin(state: &Path, cache: &Path) {
    if keeps_room(state) || !is_full(state) {
        return;
    }
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let compiled =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "compiled"));
    let given = compiled.filter(|path| fs::remove_file(path).is_ok()).count();
    if given > 0 {
        tracing::warn!(
            "the disk of {} is full, and nothing is kept there for that: gave up {given} compiled components in {}, \
             which are compiled anew",
            state.display(),
            cache.display()
        );
    }
}

/// Whether the journal has a file that it can go on with.
fn keeps_room(state: &Path) -> bool {
    let entries = fs::read_dir(state.join("journal")).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.path());
    names.any(|path| path.extension().is_some_and(|end| end == "spare" || end == "effects"))
}

fn is_full(state: &Path) -> bool {
    let probe = state.join(format!(".room-{}", std::process::id()));
    let made = File::create(&probe).and_then(|file| disk::allocate(&file, WANTED));
    let _ = fs::remove_file(&probe);
    // That a file may become no larger (`ulimit -f`) is no want of room.
    made.is_err_and(|error| disk::is_full(&error) && error.kind() != io::ErrorKind::FileTooLarge)
}
