//! Where the old table is: a URL that is never shown, and a name.

use std::fmt;
use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;

use super::LegacyError;

/// The URL of the old database: `mysql://user:password@host/database`.
#[derive(Clone)]
pub struct LegacyUrl {
    pub(super) options: MySqlConnectOptions,
}

impl LegacyUrl {
    /// Reads `text`. The error has no part of it.
    pub fn parse(text: &str) -> Result<Self, LegacyError> {
        let rest = text
            .strip_prefix("mysql://")
            .or_else(|| text.strip_prefix("mariadb://"))
            .ok_or(LegacyError::Url("it begins with mysql:// or mariadb://"))?;
        let (_, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A password with such a character in it would end the address, and
        // its rest would be taken, and shown, for a host or a database.
        if rest.contains(['@', '#']) {
            let why = "write special characters of the password in percent encoding: %40 for @, %2F for /, %23 for #";
            return Err(LegacyError::Url(why));
        }
        let database = rest.strip_prefix('/').map(|rest| rest.split('?').next().unwrap_or_default());
        if database.is_none_or(|name| name.is_empty() || name.contains('/')) {
            return Err(LegacyError::Url("it ends with /DATABASE"));
        }
        let options = MySqlConnectOptions::from_str(text)
            .map_err(|_| LegacyError::Url("write mysql://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        // What is read and what is sent is UTF-8, whatever the table has.
        Ok(Self { options: options.charset("utf8mb4").collation("utf8mb4_bin") })
    }

    /// The server and the database, without user and password.
    pub(super) fn server(&self) -> String {
        let Self { options } = self;
        format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or_default())
    }
}

impl fmt::Debug for LegacyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LegacyUrl({})", self.server())
    }
}

/// The name of a table: letters, digits, `_` and `$` of ASCII, at most 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName(String);

/// The text is no [`TableName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a table has 1 to 64 letters, digits, _ and $")]
pub struct NotATable;

impl FromStr for TableName {
    type Err = NotATable;

    fn from_str(text: &str) -> Result<Self, NotATable> {
        let named = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$');
        if named && (1..=64).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(NotATable) }
    }
}

impl TableName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As SQL writes it.
    pub(super) fn quoted(&self) -> String {
        format!("`{}`", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        let url = LegacyUrl::parse("mysql://ada:s3cret%40%2F@db.example:3307/videos?ssl-mode=disabled").expect("a URL");
        assert_eq!(format!("{url:?}"), "LegacyUrl(db.example:3307/videos)");
        for bad in [
            "s3cret",
            "postgres://ada:s3cret@h/videos",
            "mysql://ada:s3cret@h",
            "mysql://ada:s3cret@h/",
            "mysql://ada:s3cret@h/a/b",
            "mysql://ada:3/s3cret@h/videos",
            "mysql://ada:3#s3cret@h/videos",
            "mysql://ada:3?s3cret@h/videos",
            "mysql://ada:s3cret@h:port/videos",
            "mysql://ada:s3cret%FF@h/videos",
            "mysql://ada@h/videos?ssl-mode=s3cret",
        ] {
            let told = LegacyUrl::parse(bad).expect_err(bad).to_string();
            assert!(!told.contains("s3cret"), "{told}");
        }
    }

    #[test]
    fn names_of_tables_are_checked() {
        for good in ["video_del_rec", "T$1", &"x".repeat(64)] {
            assert_eq!(good.parse::<TableName>().map(|name| name.quoted()), Ok(format!("`{good}`")));
        }
        for bad in ["", "a b", "a`; DROP TABLE x", "a.b", "ä", &"x".repeat(65)] {
            assert_eq!(bad.parse::<TableName>(), Err(NotATable), "{bad}");
        }
    }
}
