//! What a guest may do in a mount.

use std::fmt;
use std::str::FromStr;

/// One kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See the names in a folder.
    List,
    /// See what an entry is: its kind, size and times.
    Stat,
    /// Read the content of a file, or where a link leads.
    Read,
    /// Change the content, size or times of what is there.
    Write,
    /// Make files, folders and hard links.
    Create,
    /// Move what is there.
    Rename,
    /// Remove files and empty folders, or put another in their place.
    Delete,
}

impl Right {
    /// All, in the order in which they are written.
    pub const ALL: [Self; 7] =
        [Self::List, Self::Stat, Self::Read, Self::Write, Self::Create, Self::Rename, Self::Delete];

    /// As it is written in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Stat => "stat",
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Rename => "rename",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of [`Right`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// List, stat and read: `ro`, and the most that a dispatcher ever has.
    pub const RO: Self = Self::NONE.with(Right::List).with(Right::Stat).with(Right::Read);
    /// All: `rw`.
    pub const RW: Self = Self::RO.with(Right::Write).with(Right::Create).with(Right::Rename).with(Right::Delete);

    /// These and one more.
    #[must_use]
    pub const fn with(self, right: Right) -> Self {
        Self(self.0 | 1 << right as u8)
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, right: Right) -> bool {
        self.0 & (1 << right as u8) != 0
    }

    /// What both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nothing can be changed with them.
    #[must_use]
    pub const fn only_look(self) -> bool {
        self.0 & !Self::RO.0 == 0
    }
}

/// The text names no right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no right")]
pub struct NoRight(pub String);

/// Names separated by commas, or a short form: `ro`, `rw`.
impl FromStr for Rights {
    type Err = NoRight;

    fn from_str(text: &str) -> Result<Self, NoRight> {
        text.split(',').map(str::trim).try_fold(Self::NONE, |rights, word| match word {
            "ro" => Ok(Self(rights.0 | Self::RO.0)),
            "rw" => Ok(Self(rights.0 | Self::RW.0)),
            word => {
                let right = Right::ALL.into_iter().find(|right| right.name() == word);
                right.map(|right| rights.with(right)).ok_or_else(|| NoRight(word.to_owned()))
            }
        })
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RO => f.write_str("ro"),
            Self::RW => f.write_str("rw"),
            rights => {
                let names: Vec<_> =
                    Right::ALL.into_iter().filter(|right| rights.has(*right)).map(Right::name).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

impl serde::Serialize for Rights {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, shown) in
            [("ro", "ro"), ("rw", "rw"), ("delete,list", "list, delete"), ("ro, delete", "list, stat, read, delete")]
        {
            let rights: Rights = text.parse().expect("rights");
            assert_eq!(rights.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rights));
        }
        assert_eq!("list, fly".parse::<Rights>(), Err(NoRight("fly".to_owned())));
        assert!(Rights::RO.only_look() && !Rights::RO.with(Right::Delete).only_look());
        assert_eq!(Rights::RW.and(Rights::RO), Rights::RO);
    }
}
