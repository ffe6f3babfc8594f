//! What no plugin may touch, whatever it decides.

use std::fmt;
use std::path::Path;

use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::Serialize;

use super::job::JobId;
use super::time::Timestamp;

/// The store's number for a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct HoldId(pub i64);

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which paths are held: a glob, of which `*` and `?` match no `/` and `**`
/// matches any number of folders. It is matched against the path within the
/// mount, or, where it begins with `/`, the path on the machine. What matches a
/// folder holds all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// The text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no pattern: {why}")]
pub struct BadPattern {
    text: String,
    why: String,
}

impl Pattern {
    /// Longest pattern, in bytes.
    pub const MAX: usize = 4096;

    /// Checks and takes `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, BadPattern> {
        let text = text.into();
        let why = match text.trim_matches('/') {
            "" => Some("it is empty; `**` holds everything".to_owned()),
            _ if text.len() > Self::MAX => Some(format!("it is longer than {} bytes", Self::MAX)),
            _ if text.contains('\0') => Some("it holds a NUL".to_owned()),
            _ => glob(&text).err().map(|error| error.kind().to_string()),
        };
        match why {
            Some(why) => Err(BadPattern { text, why }),
            None => Ok(Self(text)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders before the first that has a wildcard.
    #[must_use]
    pub fn fixed_part(&self) -> &Path {
        fixed_part(&self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn glob(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text.trim_end_matches('/')).literal_separator(true).build()
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Its number.
    pub id: HoldId,
    /// Whose plugins it stops.
    #[serde(skip)]
    pub job: JobId,
    /// What it holds.
    pub pattern: Pattern,
    /// Until when; absent for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why, for whoever asks.
    pub why: String,
    /// When it was put there.
    pub since: Timestamp,
}

/// The holds of a job, ready to be asked.
#[derive(Debug, Default)]
pub struct Holds(Vec<(Hold, GlobMatcher)>);

impl Holds {
    /// Of these.
    #[must_use]
    pub fn new(holds: Vec<Hold>) -> Self {
        let compiled = |hold: Hold| {
            let glob = glob(hold.pattern.as_str()).ok()?;
            Some((hold, glob.compile_matcher()))
        };
        Self(holds.into_iter().filter_map(compiled).collect())
    }

    /// How many stand at `now`.
    #[must_use]
    pub fn standing_at(&self, now: Timestamp) -> usize {
        self.standing(now).count()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hold on this path of this mount at `now`, if any.
    #[must_use]
    pub fn on(&self, mount: &Path, path: &str, now: Timestamp) -> Option<&Hold> {
        self.standing(now)
            .find(|(hold, glob)| {
                if hold.pattern.as_str().starts_with('/') {
                    mount.join(path).ancestors().any(|part| glob.is_match(part))
                } else {
                    Path::new(path).ancestors().any(|part| glob.is_match(part))
                }
            })
            .map(|(hold, _)| hold)
    }

    /// The hold on this folder or, as far as that can be told, on anything that
    /// may be in it: such a folder is not moved.
    #[must_use]
    pub fn within(&self, mount: &Path, folder: &str, now: Timestamp) -> Option<&Hold> {
        self.on(mount, folder, now).or_else(|| {
            self.standing(now).map(|(hold, _)| hold).find(|hold| {
                let fixed = fixed_part(hold.pattern.as_str());
                let full = mount.join(folder);
                let folder = if hold.pattern.as_str().starts_with('/') { full.as_path() } else { Path::new(folder) };
                // One of the two lies on the way to the other.
                fixed.starts_with(folder) || folder.starts_with(fixed)
            })
        })
    }

    fn standing(&self, now: Timestamp) -> impl Iterator<Item = &(Hold, GlobMatcher)> {
        self.0.iter().filter(move |(hold, _)| hold.until.is_none_or(|until| until > now))
    }
}

/// The folders of a pattern before the first that has a wildcard.
fn fixed_part(pattern: &str) -> &Path {
    let wild = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    let end = if wild == pattern.len() { wild } else { pattern[..wild].rfind('/').unwrap_or(0) };
    Path::new(&pattern[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(patterns: &[&str]) -> Holds {
        let hold = |pattern: &&str| Hold {
            id: HoldId(1),
            job: JobId(1),
            pattern: Pattern::new(*pattern).expect("a pattern"),
            until: None,
            why: String::new(),
            since: Timestamp(0),
        };
        Holds::new(patterns.iter().map(hold).collect())
    }

    #[test]
    fn what_is_held() {
        for (pattern, held, free) in [
            ("a.mp4", vec!["a.mp4"], vec!["b.mp4", "x/a.mp4", "a.mp4x"]),
            ("*.mp4", vec!["a.mp4"], vec!["x/a.mp4"]),
            ("**/*.mp4", vec!["a.mp4", "x/y/a.mp4"], vec!["a.ts"]),
            ("2024", vec!["2024", "2024/a", "2024/x/y"], vec!["20245", "x/2024"]),
            ("2024/", vec!["2024/a"], vec!["2025/a"]),
            ("/srv/v/2024/**", vec!["2024/a", "2024/x/y"], vec!["2025/a"]),
            ("/srv", vec!["a"], vec![]),
        ] {
            let holds = holds(&[pattern]);
            for path in held {
                assert!(holds.on(Path::new("/srv/v"), path, Timestamp(0)).is_some(), "{pattern} holds {path}");
            }
            for path in free {
                assert!(holds.on(Path::new("/srv/v"), path, Timestamp(0)).is_none(), "{pattern} does not hold {path}");
            }
        }
    }

    #[test]
    fn a_folder_with_something_held_is_not_moved() {
        for (pattern, held, free) in [
            ("2024/x/*.mp4", vec!["2024", "2024/x", "2024/x/y"], vec!["2025", "2024/y"]),
            ("**/*.mp4", vec!["2024", "a/b"], vec![]),
            ("/srv/v/2024/a", vec!["2024"], vec!["2025"]),
        ] {
            let holds = holds(&[pattern]);
            for path in held {
                assert!(holds.within(Path::new("/srv/v"), path, Timestamp(0)).is_some(), "{pattern} {path}");
            }
            for path in free {
                assert!(holds.within(Path::new("/srv/v"), path, Timestamp(0)).is_none(), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn it_ends() {
        let mut hold = holds(&["a"]).0.remove(0).0;
        hold.until = Some(Timestamp(10));
        let holds = Holds::new(vec![hold]);
        assert!(holds.on(Path::new("/"), "a", Timestamp(9)).is_some());
        assert!(holds.on(Path::new("/"), "a", Timestamp(10)).is_none());
    }

    #[test]
    fn what_is_no_pattern() {
        for bad in ["", "/", "a[", "{a"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }
}
