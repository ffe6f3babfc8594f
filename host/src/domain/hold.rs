//! What no plugin may touch, whatever it decides.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::job::JobId;
use super::time::Timestamp;

mod pattern;

pub use pattern::{BadPattern, Pattern};

/// The store's number for a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct HoldId(pub i64);

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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

/// How much a hold held when somebody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeldNow {
    /// So many files.
    pub files: u64,
    /// Whether all files were looked at; else there may be more.
    pub complete: bool,
    /// The path of one of them on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// Why not all were looked at, where that is not for lack of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl HeldNow {
    /// Whether it is certain that nothing is held.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.files == 0 && self.complete
    }
}

/// A hold that was put in place, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlacedHold {
    /// The hold.
    #[serde(flatten)]
    pub hold: Hold,
    /// What it holds now.
    pub now: HeldNow,
    /// What may be wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<&'static str>,
}

impl PlacedHold {
    /// A hold that holds nothing now may be a mistake, and is told.
    #[must_use]
    pub fn new(hold: Hold, now: HeldNow) -> Self {
        let warning = now.is_nothing().then_some("it holds no file now; check the pattern");
        Self { hold, now, warning }
    }
}

/// The holds of a job, ready to be asked.
#[derive(Debug, Default)]
pub struct Holds {
    holds: Vec<Hold>,
    number: u64,
}

impl Holds {
    /// Of these.
    #[must_use]
    pub fn new(holds: Vec<Hold>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self { holds, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    /// Tells these from those that stood before: it rises.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether they are these.
    #[must_use]
    pub fn are(&self, holds: &[Hold]) -> bool {
        self.holds == holds
    }

    /// How many stand at `now`.
    #[must_use]
    pub fn standing_at(&self, now: Timestamp) -> usize {
        self.standing(now).count()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// The hold on this path of this mount at `now`, if any.
    #[must_use]
    pub fn on(&self, mount: &Path, path: &str, now: Timestamp) -> Option<&Hold> {
        self.standing(now).find(|hold| hold.is_on(mount, path))
    }

    /// The hold on this folder or, as far as that can be told, on anything that
    /// may be in it: such a folder is not moved.
    #[must_use]
    pub fn within(&self, mount: &Path, folder: &str, now: Timestamp) -> Option<&Hold> {
        self.on(mount, folder, now).or_else(|| {
            self.standing(now).find(|hold| {
                let fixed = hold.pattern.fixed_part();
                let full = mount.join(folder);
                let folder = if hold.pattern.is_of_machine() { full.as_path() } else { Path::new(folder) };
                // One of the two lies on the way to the other.
                fixed.starts_with(folder) || folder.starts_with(fixed)
            })
        })
    }

    fn standing(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.until.is_none_or(|until| until > now))
    }
}

impl Hold {
    /// Whether its pattern matches this path of this mount.
    fn is_on(&self, mount: &Path, path: &str) -> bool {
        is_on(&self.pattern, mount, path)
    }
}

/// Whether a pattern matches this path of this mount, or a folder on the way.
#[must_use]
pub fn is_on(pattern: &Pattern, mount: &Path, path: &str) -> bool {
    if pattern.is_of_machine() { pattern.holds(&mount.join(path).to_string_lossy()) } else { pattern.holds(path) }
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
            ("[old]/**", vec!["[old]/a"], vec!["o/a"]),
            ("/srv/v/{x}/a", vec!["{x}/a"], vec!["x/a"]),
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
            ("[a]/b", vec!["[a]"], vec!["a"]),
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
        let mut hold = holds(&["a"]).holds.remove(0);
        hold.until = Some(Timestamp(10));
        let holds = Holds::new(vec![hold]);
        assert!(holds.on(Path::new("/"), "a", Timestamp(9)).is_some());
        assert!(holds.on(Path::new("/"), "a", Timestamp(10)).is_none());
    }
}
