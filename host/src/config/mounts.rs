//! The directories of a job: they exist, and none lets a plugin reach what
//! decides about it.

use std::path::{Component, Path, PathBuf};

use crate::domain::job::Mount;
use crate::domain::rights::Rights;

use super::paths::{absolute, follow};
use super::raw::{RawMount, RawMounts, RawRights};
use super::resolved::Resolver;

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
        let protect = |path| Self { what: what.to_owned(), path, inside: false };
        follow(path).deciding.into_iter().map(protect).collect()
    }

    /// A folder that is the host's own with all that is in it.
    pub(super) fn folder(what: &str, path: &Path) -> Vec<Self> {
        let mut all = Self::file(what, path);
        all.push(Self { what: what.to_owned(), path: follow(path).end, inside: true });
        all
    }

    fn reached_by(&self, mount: &Path) -> bool {
        self.path.starts_with(mount) || (self.inside && mount.starts_with(&self.path))
    }
}

/// The mounts of the job at `path` (`job[0].mounts`).
pub(super) fn resolve(
    resolver: &mut Resolver,
    path: &str,
    raw: Option<RawMounts>,
    protected: &[Protected],
) -> Vec<Mount> {
    let raw = match raw {
        None => Vec::new(),
        Some(RawMounts::One(mount)) => vec![mount],
        Some(RawMounts::Many(mounts)) => mounts,
    };
    let only = raw.len() == 1;
    let mut mounts: Vec<Mount> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let place = format!("{path}[{index}]");
        let Some(mount) = one(resolver, &place, raw, only, protected) else { continue };
        if let Some(twin) = mounts.iter().find(|other| other.guest == mount.guest) {
            let message =
                format!("the plugin would see both {} and {} at {}", show(&twin.host), show(&mount.host), mount.guest);
            resolver.refuse(&place, message, Some("give each mount of a job its own `at`".to_owned()));
        } else if let Some(other) = mounts.iter().find(|other| overlap(&other.host, &mount.host)) {
            let message = format!("{} and {} overlap", show(&other.host), show(&mount.host));
            resolver.refuse(&place, message, Some("mount the outer one alone, or two folders side by side".to_owned()));
        } else {
            mounts.push(mount);
        }
    }
    mounts
}

fn one(resolver: &mut Resolver, place: &str, raw: RawMount, only: bool, protected: &[Protected]) -> Option<Mount> {
    let (path, at, rights, cross_mounts) = match raw {
        RawMount::Path(path) => (path, None, None, None),
        RawMount::Full { path, at, rights, cross_mounts } => (path, at, rights, cross_mounts),
    };
    let rights = rights_of(resolver, place, rights);
    let guest = guest_path(resolver, place, at, only);
    let host = directory(resolver, place, &path, protected);
    Some(Mount { host: host?, guest: guest?, rights: rights?, cross_mounts: cross_mounts.unwrap_or(false) })
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

fn directory(resolver: &mut Resolver, place: &str, path: &str, protected: &[Protected]) -> Option<PathBuf> {
    let path = absolute(resolver.folder(), path);
    let help = match path.canonicalize() {
        Ok(real) if !real.is_dir() => {
            resolver.refuse(place, format!("{} is no directory", show(&path)), None);
            return None;
        }
        Ok(real) if real == Path::new("/") => {
            let help = "a plugin gets one directory of data, never the machine";
            resolver.refuse(place, "the root directory cannot be mounted".to_owned(), Some(help.to_owned()));
            return None;
        }
        Ok(real) => {
            let Some(reached) = protected.iter().find(|protected| protected.reached_by(&real)) else {
                return Some(real);
            };
            let message = format!("{} reaches {} ({})", show(&path), reached.what, show(&reached.path));
            let help = "a plugin could rewrite what decides about it; keep the data in a directory of its own";
            resolver.refuse(place, message, Some(help.to_owned()));
            return None;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (format!("{} does not exist", show(&path)), Some(format!("create it: mkdir -p {}", show(&path))))
        }
        Err(error) => (format!("{} cannot be used: {error}", show(&path)), None),
    };
    resolver.refuse(place, help.0, help.1);
    None
}

/// Whether one lies in the other, and they are not the same.
pub(super) fn nested(a: &Path, b: &Path) -> bool {
    a != b && overlap(a, b)
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn show(path: &Path) -> impl std::fmt::Display {
    path.display()
}
