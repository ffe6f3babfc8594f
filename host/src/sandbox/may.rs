//! What a guest may do, asked before it is done: its rights in a mount, and the
//! holds of its job.

use std::sync::atomic::Ordering;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::domain::effect::Operation;
use crate::domain::rights::Right;

use super::beneath::Borders;
use super::call::Call;
use super::deeds::Deed;
use super::kept;
use super::mounts::Mount;
use super::place::Place;
use super::wall;

impl Call {
    /// Refuses what the mount does not grant.
    pub(super) fn must_have(&self, mount: &Mount, right: Right, what: &str) -> Result<(), Errno> {
        if mount.rights.has(right) || wall::is_holed() {
            return Ok(());
        }
        let whose = match self.role {
            super::guest::Role::Dispatcher => "a dispatcher",
            super::guest::Role::Executor => "the plugin",
        };
        self.say_refused(what, &format!("{whose} does not have the right `{right}` in {}", mount.host.display()));
        Err(if mount.rights.only_look() && !is_looking(right) { Errno::ROFS } else { Errno::PERM })
    }

    /// Tells that something is mounted at a path, or on the way to it.
    pub(super) fn say_mounted(&self, mount: &Mount, path: &str) {
        let path = mount.host.join(path.trim_start_matches('/'));
        let why = match mount.borders {
            Borders::Keep => format!(
                "something else is mounted there, or on the way: plugins do not go into it unless the mount {} has \
                 cross_mounts = true",
                mount.host.display()
            ),
            Borders::Cross => "something else is mounted there: unmount it before it is removed or moved".to_owned(),
        };
        self.say_refused(&path.display().to_string(), &why);
    }

    /// Refuses the marker and the trash of any mount, by whatever path they were
    /// reached.
    pub(super) fn must_not_be_kept(&self, stat: &Stat, what: &str) -> Result<(), Errno> {
        if !kept::is_kept_stat(stat) {
            return Ok(());
        }
        self.say_refused(what, "it is the marker or the trash of a mount");
        Err(Errno::PERM)
    }

    /// Refuses what is held. A folder that is moved takes along all that is in
    /// it, so that nothing in it may be held either.
    pub(super) fn must_be_free(&self, place: &Place, is_folder: bool) -> Result<(), Errno> {
        let holds = self.custody.holds.load();
        self.checked.fetch_min(holds.number(), Ordering::Relaxed);
        if holds.is_empty() {
            return Ok(());
        }
        if !self.custody.is_simulated() {
            place.folder.must_be_called_so()?;
        }
        let (path, mount, now) = (place.path(), &place.mount().host, self.custody.clock.careful());
        let hold = if is_folder { holds.within(mount, &path, now) } else { holds.on(mount, &path, now) };
        match hold {
            None => Ok(()),
            Some(hold) => {
                self.meet(hold, &mount.join(&path).to_string_lossy());
                Err(Errno::PERM)
            }
        }
    }
}

impl Call {
    /// Asked under the permit: whether what was found free still is. A hold that
    /// was put in place since then is met here, so that none is overlooked by a
    /// change that begins after it stands.
    pub(super) fn must_still_be_free(&self, deed: &Deed<'_>) -> Result<(), Errno> {
        let checked = self.checked.swap(u64::MAX, Ordering::Relaxed);
        if checked == self.custody.holds.load().number() {
            return Ok(());
        }
        let is_folder = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let moves_folder = deed.operation == Operation::Rename && deed.before.as_ref().is_some_and(is_folder);
        let mut places = [Some(deed.place), deed.to].into_iter().flatten();
        let free = places.try_for_each(|place| self.must_be_free(place, moves_folder));
        // Of what else this operation found free nothing is known any more.
        self.checked.store(u64::MAX, Ordering::Relaxed);
        free
    }
}

fn is_looking(right: Right) -> bool {
    matches!(right, Right::List | Right::Stat | Right::Read)
}
