//! What is left in a folder that cannot be removed, where no guest can see it:
//! names that are not UTF-8 are in no listing, and "not empty" is all that the
//! guest is told.

use rustix::fs::Dir;
use rustix::io::Errno;

use super::alter::open_folder;
use super::call::Call;
use super::deeds::NotDone;
use super::place::Place;
use super::view::Stands;

/// Most entries that are looked at.
const MOST: usize = 1000;

impl Call {
    /// Tells what is left in the folder at `place`, if nothing of that can be
    /// named by a guest.
    pub(super) fn told_if_unnamable(&self, not_done: NotDone, place: &Place, stands: &Stands) -> NotDone {
        if matches!(not_done, NotDone::Refused(Errno::NOTEMPTY))
            && let Ok(Some((name, count))) = unnamable(place, stands)
        {
            let path = place.mount().host.join(place.path()).display().to_string();
            let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            let why = format!(
                "{path} is not empty: `{name}`{others} is left in it, and no plugin can name what is not UTF-8; remove \
                 it by hand: rm -r -- '{}'",
                path.replace('\'', "'\\''")
            );
            self.say_refused("remove-directory", &why);
        }
        not_done
    }
}

/// The first name in the folder, and how many there are, as far as they were
/// looked at; `None` where a guest can name one of them.
fn unnamable(place: &Place, stands: &Stands) -> Result<Option<(String, usize)>, Errno> {
    let folder = open_folder(place, stands)?;
    if folder.fd().is_none() {
        return Ok(None);
    }
    let (mut first, mut count) = (None, 0);
    for entry in Dir::new(folder.read()?)?.take(MOST) {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if str::from_utf8(name).is_ok() {
            return Ok(None);
        }
        count += 1;
        first.get_or_insert_with(|| name.escape_ascii().to_string());
    }
    Ok(first.map(|name| (name, count)))
}
