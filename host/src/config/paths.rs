//! Paths, followed through their links without opening what they name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// A path without links, as far as it exists, and what decides where it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Where it ends.
    pub end: PathBuf,
    /// Every folder whose entries decide where it ends: its own, and the one of
    /// each link on the way. Who may write in one of them may redirect it.
    pub deciding: BTreeSet<PathBuf>,
}

/// Follows an absolute path.
pub(super) fn follow(path: &Path) -> Followed {
    follow_telling(path, |_| ())
}

/// The same, and tells before each step that may wait for a disk where the path
/// leads as far as is known, the rest of it as if it had no links.
pub(super) fn follow_telling(path: &Path, mut tell: impl FnMut(Followed)) -> Followed {
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
        tell(without_looking(&next, &ahead, &deciding));
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

/// Where `ahead` leads from `at` where nothing of it is a link.
fn without_looking(at: &Path, ahead: &[OsString], deciding: &BTreeSet<PathBuf>) -> Followed {
    let mut end = at.to_owned();
    for name in ahead.iter().rev() {
        if name == ".." {
            end.pop();
        } else {
            end.push(name);
        }
    }
    let own = end.parent().map(Path::to_owned);
    Followed { deciding: deciding.iter().cloned().chain(own).collect(), end }
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
        // What is known when a step hangs: the links so far, and the rest as it is written.
        let mut told = Vec::new();
        follow_telling(&root.join("plugins/current/sub/../a.wasm"), |followed| told.push(followed));
        let last = told.pop().expect("it was told");
        assert_eq!(last.end, root.join("releases/1/a.wasm"));
        assert!(last.deciding.contains(&root.join("plugins")) && last.deciding.contains(&root.join("releases/1")));
        assert!(told.iter().any(|followed| followed.end == root.join("plugins/current/a.wasm")), "{told:?}");
    }

    #[test]
    fn absolute_from_the_folder() {
        let folder = Path::new("/etc/sweepd");
        assert_eq!(absolute(folder, "./videos"), Path::new("/etc/sweepd/videos"));
        assert_eq!(absolute(folder, "/srv/./videos/"), Path::new("/srv/videos"));
        assert_eq!(absolute(folder, "../x"), Path::new("/etc/sweepd/../x"));
    }
}
