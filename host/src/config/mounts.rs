//! The directories of a job as they were written, and what none of them may
//! reach.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::domain::job::Mount;
use crate::domain::rights::Rights;

use super::paths::{Followed, absolute, follow};
use super::raw::{RawMount, RawMounts, RawRights};
use super::resolved::Resolver;
use super::settle::Written;

/// What no mount may reach.
#[derive(Debug)]
pub(super) struct Protected {
    /// In words.
    what: String,
    /// Links resolved.
    path: PathBuf,
    /// Whether a mount inside it is refused as well.
    inside: bool,
}

impl Protected {
    /// A file, by every folder that decides what it is.
    pub(super) fn file(what: &str, path: &Path) -> Vec<Self> {
        Self::followed(what, follow(path))
    }

    /// The same of a path that was followed already.
    pub(super) fn followed(what: &str, followed: Followed) -> Vec<Self> {
        let protect = |path| Self { what: what.to_owned(), path, inside: false };
        followed.deciding.into_iter().map(protect).collect()
    }

    /// A folder that is the host's own with all that is in it.
    pub(super) fn folder(what: &str, path: &Path) -> Vec<Self> {
        let mut all = Self::file(what, path);
        all.push(Self { what: what.to_owned(), path: follow(path).end, inside: true });
        all
    }

    pub(super) fn reached_by(&self, mount: &Path) -> bool {
        self.path.starts_with(mount) || (self.inside && mount.starts_with(&self.path))
    }
}

impl fmt::Display for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.path.display())
    }
}

/// The mounts of the job at `path` (`job[0].mounts`), and where each was written.
/// What stands there is not looked at.
pub(super) fn resolve(resolver: &mut Resolver, path: &str, raw: Option<RawMounts>) -> (Vec<Mount>, Vec<Written>) {
    let raw = match raw {
        None => Vec::new(),
        Some(RawMounts::One(mount)) => vec![mount],
        Some(RawMounts::Many(mounts)) => mounts,
    };
    let only = raw.len() == 1;
    let (mut mounts, mut all_written): (Vec<Mount>, _) = (Vec::new(), Vec::new());
    for (index, raw) in raw.into_iter().enumerate() {
        let place = format!("{path}[{index}]");
        let Some(mount) = one(resolver, &place, raw, only) else { continue };
        if let Some(twin) = mounts.iter().find(|other| other.guest == mount.guest) {
            let message =
                format!("the plugin would see both {} and {} at {}", show(&twin.host), show(&mount.host), mount.guest);
            resolver.refuse(&place, message, Some("give each mount of a job its own `at`".to_owned()));
        } else {
            mounts.push(mount);
            all_written.push(resolver.written(&place));
        }
    }
    (mounts, all_written)
}

fn one(resolver: &mut Resolver, place: &str, raw: RawMount, only: bool) -> Option<Mount> {
    let (path, at, rights, cross_mounts) = match raw {
        RawMount::Path(path) => (path, None, None, None),
        RawMount::Full { path, at, rights, cross_mounts } => (path, at, rights, cross_mounts),
    };
    let rights = rights_of(resolver, place, rights);
    let guest = guest_path(resolver, place, at, only);
    let host = absolute(resolver.folder(), &path);
    let cross_mounts = cross_mounts.unwrap_or(false);
    Some(Mount { host, was_there: false, guest: guest?, rights: rights?, cross_mounts })
}

fn rights_of(resolver: &mut Resolver, place: &str, raw: Option<RawRights>) -> Option<Rights> {
    let text = match raw {
        None => return Some(Rights::RW),
        Some(RawRights::Short(text)) => text,
        Some(RawRights::List(names)) => names.join(","),
    };
    text.parse()
        .map_err(|_| {
            let help = "\"ro\" lets the plugin look, \"rw\" lets its executor change files too, and a list names each: \
                        [\"list\", \"stat\", \"read\", \"write\", \"create\", \"rename\", \"delete\"]";
            resolver.refuse(&format!("{place}.rights"), format!("`{text}` are no rights"), Some(help.to_owned()));
        })
        .ok()
}

fn guest_path(resolver: &mut Resolver, place: &str, at: Option<String>, only: bool) -> Option<String> {
    let Some(at) = at else {
        if only {
            return Some("/".to_owned());
        }
        let help = "a job with several mounts says where its plugin sees each: at = \"/videos\"";
        resolver.refuse(place, "has no `at`".to_owned(), Some(help.to_owned()));
        return None;
    };
    let mut components = Path::new(&at).components();
    let good = components.next() == Some(Component::RootDir)
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !at.contains('\0');
    if !good {
        let message = format!("`{at}` is no place for a mount");
        resolver.refuse(
            &format!("{place}.at"),
            message,
            Some("write an absolute path, such as \"/videos\"".to_owned()),
        );
        return None;
    }
    let trimmed = at.trim_end_matches('/');
    Some(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

/// Whether one lies in the other, and they are not the same.
pub(super) fn nested(a: &Path, b: &Path) -> bool {
    a != b && overlap(a, b)
}

pub(super) fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn show(path: &Path) -> impl fmt::Display {
    path.display()
}
