//! The second wall: what of the machine the host itself can still reach, as it
//! was asked for and as it stands.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// `sandbox.landlock`: whether the host confines itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WallPolicy {
    /// The host starts only behind the wall.
    Required,
    /// Behind as much of it as the kernel can put up.
    BestEffort,
    /// Without it.
    Off,
}

impl WallPolicy {
    /// All, from the strictest on.
    pub const ALL: [Self; 3] = [Self::Required, Self::BestEffort, Self::Off];

    /// As it is written in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::BestEffort => "best-effort",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for WallPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What may be done behind an opening in the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read files and list folders.
    Read,
    /// Also make, change, move and remove what is there.
    Change,
    /// The same in a folder that is the host's own: it is made, for this user
    /// alone, where there is none.
    Own,
}

/// A file, or a folder with all that is in it, that stays within reach. It is
/// the one that stands at the path when the wall is put up, whatever stands
/// there later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Where it is on this machine; links are followed.
    pub path: PathBuf,
    /// What may be done there.
    pub access: Access,
}

impl Opening {
    /// At `path`, for this.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, access: Access) -> Self {
        Self { path: path.into(), access }
    }
}

/// How much of the wall stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforced {
    /// All of it.
    Fully,
    /// What this kernel knows of it.
    Partly,
    /// Nothing.
    Not,
}

/// The wall of a running host; it stands as long as its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WallStatus {
    /// What was asked for.
    pub landlock: WallPolicy,
    /// What stands.
    pub enforced: Enforced,
    /// Why it is not all; absent where it is, or where none was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
