//! What is known of the components that a job accepted: which answered, which
//! were set aside and why, which one is pinned; and what people may do about
//! it.
//!
//! The order is that in which they last took the slot. Its invariant: the
//! pinned component and the one that took the slot last are never forgotten.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::time::Timestamp;

/// How many components of a job are kept.
pub const KEPT: usize = 10;

/// The accepted components of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginHistory {
    /// The one that serves whatever the plugin's file holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Digest>,
    /// In the order in which they last took the slot, the newest last.
    pub accepted: Vec<Accepted>,
}

/// A component that the host took once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// When it was first taken.
    pub accepted_at: Timestamp,
    /// `job` or `executor-only`; absent where an earlier version did not note
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<String>,
    /// Whether an execution of it ever answered.
    #[serde(default)]
    pub answered: bool,
    /// Since when it does not serve, and why; absent while it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<SetAside>,
}

/// A component does not serve until somebody says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// A component that was accepted, and whether it could serve from its copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What is known of it.
    #[serde(flatten)]
    pub accepted: Accepted,
    /// How its copy in the state folder is.
    pub copy: CopyState,
}

/// How the copy of a component in the state folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyState {
    /// It has the component's digest.
    Intact,
    /// There is none.
    Missing,
    /// It has another digest, or cannot be read.
    Damaged,
}

impl CopyState {
    /// Its name, as in `--json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
        }
    }
}

/// What a person wants to serve. A digest may be given by its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Sets what serves aside.
    Rollback {
        /// What is to serve instead; the last that answered where `None`.
        to: Option<String>,
        /// Why, for the record.
        why: String,
    },
    /// One component serves, whatever the file holds.
    Pin {
        /// Which.
        digest: String,
    },
    /// The file counts again.
    Unpin,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    /// What is to serve now; `None` where the plugin's file says it.
    pub serves: Option<Digest>,
    /// What was set aside.
    pub set_aside: Option<Digest>,
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// None is called so.
    #[error("no kept component has a digest that begins with `{0}`; see those that there are: sweepd plugin history")]
    Unknown(String),
    /// Several are called so.
    #[error("the digests of several kept components begin with `{prefix}`: {}; give more digits", shorts(.matches))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// Those that it may mean.
        matches: Vec<Digest>,
    },
    /// There is nothing to go back to.
    #[error(
        "there is nothing to go back to: no other component ever answered and is not set aside; \
         name one of those in sweepd plugin history, or put another plugin file in place"
    )]
    NothingBefore,
    /// What is pinned serves until it is unpinned.
    #[error("{} is pinned; unpin it first, or pin another one", .0.short())]
    Pinned(Digest),
    /// It is what serves.
    #[error("{} is what serves now; name another one", .0.short())]
    Serves(Digest),
}

fn shorts(digests: &[Digest]) -> String {
    digests.iter().map(Digest::short).collect::<Vec<_>>().join(", ")
}

impl PluginHistory {
    /// A component takes the slot. Answers those that are forgotten for it.
    pub fn took_the_slot(&mut self, component: Accepted) -> Vec<Digest> {
        let digest = component.digest;
        let mut entry = self.take(digest).unwrap_or_else(|| component.clone());
        entry.size = component.size;
        entry.world = component.world;
        self.accepted.push(entry);
        let mut forgotten = Vec::new();
        while self.accepted.len() > KEPT {
            let Some(oldest) = self.accepted.iter().position(|entry| Some(entry.digest) != self.pinned) else { break };
            forgotten.push(self.accepted.remove(oldest).digest);
        }
        forgotten
    }

    /// An execution of it answered.
    pub fn answered(&mut self, digest: Digest) {
        if let Some(entry) = self.entry(digest) {
            entry.answered = true;
        }
    }

    /// It is not to serve any more.
    pub fn set_aside(&mut self, digest: Digest, mark: SetAside) {
        if let Some(entry) = self.entry(digest) {
            entry.set_aside = Some(mark);
            return;
        }
        // It could not be kept; that it must not serve is known all the same.
        let accepted_at = mark.at;
        let entry = Accepted { digest, size: 0, accepted_at, world: None, answered: false, set_aside: Some(mark) };
        self.accepted.insert(0, entry);
    }

    /// Why a component does not serve; `None` where it may.
    #[must_use]
    pub fn mark_of(&self, digest: Digest) -> Option<&SetAside> {
        self.get(digest)?.set_aside.as_ref()
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, digest: Digest) -> Option<&Accepted> {
        self.accepted.iter().find(|entry| entry.digest == digest)
    }

    /// What serves where the plugin's file cannot: the one that took the slot
    /// last, then those that ever answered, the newest first; none that is set
    /// aside.
    #[must_use]
    pub fn instead(&self) -> Vec<Digest> {
        let newest_first = || self.accepted.iter().rev();
        let may = |entry: &&Accepted| entry.set_aside.is_none();
        let last = newest_first().take(1).filter(may);
        let good = newest_first().skip(1).filter(may).filter(|entry| entry.answered);
        last.chain(good).map(|entry| entry.digest).collect()
    }

    /// The mark that was set last, and on what.
    #[must_use]
    pub fn last_set_aside(&self) -> Option<(Digest, &SetAside)> {
        let marks = self.accepted.iter().filter_map(|entry| Some((entry.digest, entry.set_aside.as_ref()?)));
        marks.max_by_key(|(_, mark)| mark.at)
    }

    /// Does what a person asks for, or says why not and changes nothing.
    pub fn steer(&mut self, ask: &Steer, now: Timestamp) -> Result<Steered, Refused> {
        match ask {
            Steer::Rollback { to, why } => self.roll_back(to.as_deref(), why, now),
            Steer::Pin { digest } => {
                let digest = self.find(digest)?;
                self.let_serve(digest);
                self.pinned = Some(digest);
                Ok(Steered { serves: Some(digest), set_aside: None })
            }
            Steer::Unpin => {
                self.pinned = None;
                Ok(Steered { serves: None, set_aside: None })
            }
        }
    }

    fn roll_back(&mut self, to: Option<&str>, why: &str, now: Timestamp) -> Result<Steered, Refused> {
        if let Some(pinned) = self.pinned {
            return Err(Refused::Pinned(pinned));
        }
        let serving = self.accepted.last().filter(|entry| entry.set_aside.is_none()).map(|entry| entry.digest);
        let to = match to {
            Some(prefix) => self.find(prefix)?,
            None => self.instead().into_iter().find(|good| Some(*good) != serving).ok_or(Refused::NothingBefore)?,
        };
        if serving == Some(to) {
            return Err(Refused::Serves(to));
        }
        if let Some(serving) = serving {
            self.set_aside(serving, SetAside { at: now, why: why.to_owned() });
        }
        self.let_serve(to);
        // Also after a restart it is this one that serves, not a newer one.
        let entry = self.take(to);
        self.accepted.extend(entry);
        Ok(Steered { serves: Some(to), set_aside: serving })
    }

    fn let_serve(&mut self, digest: Digest) {
        if let Some(entry) = self.entry(digest) {
            entry.set_aside = None;
        }
    }

    /// The one whose digest begins so.
    fn find(&self, prefix: &str) -> Result<Digest, Refused> {
        let beginning = prefix.trim().to_ascii_lowercase();
        let is_meant = |digest: &Digest| !beginning.is_empty() && digest.to_string().starts_with(&beginning);
        let matches: Vec<_> = self.accepted.iter().map(|entry| entry.digest).filter(is_meant).collect();
        match matches[..] {
            [] => Err(Refused::Unknown(prefix.to_owned())),
            [digest] => Ok(digest),
            _ => Err(Refused::Ambiguous { prefix: prefix.to_owned(), matches }),
        }
    }

    fn entry(&mut self, digest: Digest) -> Option<&mut Accepted> {
        self.accepted.iter_mut().find(|entry| entry.digest == digest)
    }

    fn take(&mut self, digest: Digest) -> Option<Accepted> {
        let place = self.accepted.iter().position(|entry| entry.digest == digest)?;
        Some(self.accepted.remove(place))
    }
}

#[cfg(test)]
mod tests;
