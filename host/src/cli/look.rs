//! `sweepd look`: what a command that confines itself starts to look at mounts and
//! plugin files in a process of its own. Not for people.
//!
//! One that does not answer keeps the thread that looks at it, perhaps for
//! ever. No thread may be there when the wall is put up, so that it would have to
//! wait; another process may be left behind.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::config::{Followed, Found, Look, PATIENCE, look_at};

/// How long the end of the child is waited for once it has answered.
const END: Duration = Duration::from_millis(200);

/// Where to look.
#[derive(Debug, Args)]
pub(super) struct LookArgs {
    paths: Vec<PathBuf>,
}

/// An answer on its way from process to process: a path may be anything.
#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    kind: Kind,
    #[serde(default)]
    path: Vec<u8>,
    #[serde(default)]
    why: String,
    end: Vec<u8>,
    deciding: Vec<Vec<u8>>,
}

#[derive(Debug, Deserialize, Serialize)]
enum Kind {
    Directory,
    Other,
    Nothing,
    Silent,
    Unusable,
}

impl From<Look> for Answer {
    fn from(Look { found, followed }: Look) -> Self {
        let bytes = |path: PathBuf| path.into_os_string().into_vec();
        let (kind, path, why) = match found {
            Found::Directory(path) => (Kind::Directory, path, String::new()),
            Found::Other(path) => (Kind::Other, path, String::new()),
            Found::Nothing(path) => (Kind::Nothing, path, String::new()),
            Found::Silent => (Kind::Silent, PathBuf::new(), String::new()),
            Found::Unusable(why) => (Kind::Unusable, PathBuf::new(), why),
        };
        let deciding = followed.deciding.into_iter().map(bytes).collect();
        Self { kind, path: bytes(path), why, end: bytes(followed.end), deciding }
    }
}

impl From<Answer> for Look {
    fn from(Answer { kind, path, why, end, deciding }: Answer) -> Self {
        let path_of = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let found = match kind {
            Kind::Directory => Found::Directory(path_of(path)),
            Kind::Other => Found::Other(path_of(path)),
            Kind::Nothing => Found::Nothing(path_of(path)),
            Kind::Silent => Found::Silent,
            Kind::Unusable => Found::Unusable(why),
        };
        let deciding = deciding.into_iter().map(path_of).collect();
        Self { found, followed: Followed { end: path_of(end), deciding } }
    }
}

/// Looks at `paths` by another process of `program`, and answers for each in
/// order. A child that hangs is left behind.
pub(super) fn in_child(program: &Path, paths: &[PathBuf]) -> io::Result<Vec<Look>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut child = Command::new(program)
        .arg("look")
        .arg("--")
        .args(paths)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answers = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines);
    // By lines, not to the end: a thread that hangs keeps the pipe open.
    let read: io::Result<Vec<Look>> =
        answers.take(paths.len()).map(|line| Ok(serde_json::from_str::<Answer>(&line?)?.into())).collect();
    let end = std::time::Instant::now() + END;
    while child.try_wait()?.is_none() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    let read = read?;
    if read.len() == paths.len() { Ok(read) } else { Err(io::Error::other("it ended before it had answered")) }
}

/// The child's side.
pub(super) fn child(args: &LookArgs) -> ExitCode {
    let mut text = Vec::new();
    for look in look_at(&args.paths, PATIENCE) {
        let written = serde_json::to_writer(&mut text, &Answer::from(look));
        if written.is_err() {
            return ExitCode::FAILURE;
        }
        text.push(b'\n');
    }
    #[allow(clippy::disallowed_methods, reason = "the process that started this one reads it")]
    let mut stdout = io::stdout();
    let written = stdout.write_all(&text).and_then(|()| stdout.flush());
    ExitCode::from(u8::from(written.is_err()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn answers_come_over_as_they_are() {
        let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/a\xff\nb"));
        for found in [
            Found::Directory(odd.clone()),
            Found::Other(odd.clone()),
            Found::Nothing(odd.clone()),
            Found::Silent,
            Found::Unusable("no".to_owned()),
        ] {
            let followed = Followed { end: odd.clone(), deciding: [odd.clone(), PathBuf::from("/")].into() };
            let look = Look { found, followed };
            let text = serde_json::to_string(&Answer::from(look.clone())).expect("it is written");
            assert!(!text.contains('\n'));
            assert_eq!(Look::from(serde_json::from_str::<Answer>(&text).expect("it is read")), look);
        }
    }

    #[test]
    fn a_child_that_says_nothing_is_an_error() {
        assert!(in_child(Path::new("/bin/true"), &[PathBuf::from("/")]).is_err());
    }
}
