//! What the kernel can be asked about a change that is only simulated: whether it
//! would refuse it. What it cannot be asked stands in `docs/security.md`.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{Access, AtFlags, Stat};
#[cfg(target_os = "linux")]
use rustix::fs::{StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::beneath;
use super::call::Call;
use super::marker::MARKER;
use super::mounts::{Mount, TRASH};
use super::place::Place;
use super::view::Stands;

impl Call {
    /// Whether something could be taken from where it stands, into the trash where
    /// `is_kept`.
    pub(super) fn would_go(&self, place: &Place, stands: &Stands, is_kept: bool) -> Result<(), Errno> {
        self.must_be_markable(place.mount())?;
        // What a simulation made or moved is not on disk where it seems to be.
        let Ok((folder, name)) = stands.on_disk(place) else { return Ok(()) };
        if beneath::is_mounted(folder, name)? {
            return Err(Errno::BUSY);
        }
        must_be_changeable(folder, true)?;
        must_not_be_fixed(folder, name)?;
        must_be_ones_own(folder, stands.stat())?;
        if is_kept { self.must_fit_into_trash(place.mount(), folder) } else { Ok(()) }
    }

    /// Whether something could be put into the folder of a place.
    pub(super) fn would_come(&self, place: &Place) -> Result<(), Errno> {
        self.must_be_markable(place.mount())?;
        place.folder.fd().map_or(Ok(()), |folder| must_be_changeable(folder, false))
    }

    /// Nothing is changed in a mount that has no marker and can get none.
    fn must_be_markable(&self, mount: &Mount) -> Result<(), Errno> {
        let root = mount.root.as_fd();
        match rustix::fs::statat(root, MARKER, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            _ => return Ok(()),
        }
        must_be_changeable(root, false).inspect_err(|error| {
            let why = format!("the mount {} cannot be marked with the file {MARKER}: {error}", mount.host.display());
            self.say_refused("a change", &why);
        })
    }

    /// What goes into the trash is renamed: that takes the same file system and the
    /// same mount, and a folder that may be written.
    fn must_fit_into_trash(&self, mount: &Mount, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        let root = mount.root.as_fd();
        let of = |fd| Ok::<_, Errno>((rustix::fs::fstat(fd)?.st_dev, beneath::mount_of(fd)?));
        if of(root)? != of(folder)? {
            self.say_refused("a removal", "what is on another file system cannot go into the trash of the mount");
            return Err(Errno::XDEV);
        }
        match may_write(root, TRASH) {
            Err(Errno::NOENT) => must_be_changeable(root, false),
            answer => answer,
        }
    }
}

/// Whether this process may write in the folder at this name: by what it may do now,
/// capabilities and all, or, where the kernel cannot be asked so, by who started it.
fn may_write(folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    match rustix::fs::accessat(folder, name, access, AtFlags::EACCESS) {
        Err(Errno::PERM | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
            rustix::fs::accessat(folder, name, access, AtFlags::empty())
        }
        answer => answer,
    }
}

/// Whether entries of the folder may be made, and, where something is taken away,
/// removed: by its rights, by its file system and by its flags.
fn must_be_changeable(folder: BorrowedFd<'_>, takes_away: bool) -> Result<(), Errno> {
    may_write(folder, ".")?;
    let (is_immutable, only_grows) = flags(folder, "")?;
    if is_immutable || (takes_away && only_grows) { Err(Errno::PERM) } else { Ok(()) }
}

/// `chattr +i` and `+a`.
fn must_not_be_fixed(folder: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let (is_immutable, only_grows) = flags(folder, name)?;
    if is_immutable || only_grows { Err(Errno::PERM) } else { Ok(()) }
}

/// In a folder such as `/tmp` only the owner of a file or of the folder takes it
/// away, or root.
fn must_be_ones_own(folder: BorrowedFd<'_>, stat: Option<&Stat>) -> Result<(), Errno> {
    const STICKY: u32 = 0o1000;
    let Some(stat) = stat else { return Ok(()) };
    let folder = rustix::fs::fstat(folder)?;
    let me = rustix::process::geteuid();
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "a mode has another width elsewhere")]
    let is_sticky = u32::from(folder.st_mode) & STICKY != 0;
    let owners = [folder.st_uid, stat.st_uid];
    if is_sticky && !me.is_root() && !owners.contains(&me.as_raw()) { Err(Errno::PERM) } else { Ok(()) }
}

/// Whether it is immutable, and whether it may only grow; not where nobody can be
/// asked.
#[cfg(target_os = "linux")]
fn flags(folder: BorrowedFd<'_>, name: &str) -> Result<(bool, bool), Errno> {
    let at = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    match rustix::fs::statx(folder, name, at, StatxFlags::TYPE) {
        Ok(stat) => {
            let has = |flag| stat.stx_attributes_mask.contains(flag) && stat.stx_attributes.contains(flag);
            Ok((has(StatxAttributes::IMMUTABLE), has(StatxAttributes::APPEND)))
        }
        Err(Errno::NOSYS) => Ok((false, false)),
        Err(error) => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn flags(_: BorrowedFd<'_>, _: &str) -> Result<(bool, bool), Errno> {
    Ok((false, false))
}
