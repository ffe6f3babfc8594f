//! Paths, followed through their links without opening what they name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// A path without links, as far as it exists, and what decides where it leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Followed {
    /// Where it ends.
    pub(super) end: PathBuf,
    /// Every folder whose entries decide where it ends: its own, and the one of
    /// each link on the way. Who may write in one of them may redirect it.
    pub(super) deciding: BTreeSet<PathBuf>,
}

/// Follows an absolute path.
pub(super) fn follow(path: &Path) -> Followed {
    let mut end = PathBuf::from("/");
    let mut deciding = BTreeSet::new();
    let mut links = 0;
    let mut ahead = names(path);
    while let Some(name) = ahead.pop() {
        if name == ".." {
            end.pop();
            continue;
        }
        let next = end.join(&name);
        match std::fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                deciding.insert(end.clone());
                if target.is_absolute() {
                    end = PathBuf::from("/");
                }
                ahead.extend(names(&target));
            }
            _ => {
                if ahead.is_empty() {
                    deciding.insert(end);
                }
                end = next;
            }
        }
    }
    Followed { end, deciding }
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// `path` as seen from `folder`, without `.` and without following links.
pub(super) fn absolute(folder: &Path, path: &str) -> PathBuf {
    let joined = folder.join(path);
    joined.components().filter(|component| *component != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_their_folders_noted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("its real path");
        for name in ["releases/1", "plugins"] {
            std::fs::create_dir_all(root.join(name)).expect("a folder");
        }
        let link = |target: &str, at: &str| std::os::unix::fs::symlink(target, root.join(at)).expect("a link");
        link("../releases/1", "plugins/current");
        link("loop", "loop");
        let followed = follow(&root.join("plugins/current/a.wasm"));
        assert_eq!(followed.end, root.join("releases/1/a.wasm"));
        assert!(followed.deciding.contains(&root.join("plugins")));
        assert!(followed.deciding.contains(&root.join("releases/1")));
        assert_eq!(follow(&root.join("loop")).end, root.join("loop"));
        assert_eq!(follow(&root.join("none/../x")).end, root.join("x"));
    }

    #[test]
    fn absolute_from_the_folder() {
        let folder = Path::new("/etc/sweepd");
        assert_eq!(absolute(folder, "./videos"), Path::new("/etc/sweepd/videos"));
        assert_eq!(absolute(folder, "/srv/./videos/"), Path::new("/srv/videos"));
        assert_eq!(absolute(folder, "../x"), Path::new("/etc/sweepd/../x"));
    }
}
