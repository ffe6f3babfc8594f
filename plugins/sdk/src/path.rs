//! Where a key's file is: the rules for keys, and the template that a job's
//! `path` configuration gives. For policies whose keys name files.
//!
//! A key is one name, never a path: what it names stays in the folder that the
//! operator wrote into the template, even where the mount would allow more.

use std::borrow::Cow;
use std::{fs, io};

use crate::{Failure, Outcome, TimeLeft, composition, run};

const PLACEHOLDER: &str = "{key}";

/// Most names that are looked at for one that is composed otherwise.
const MOST_NAMES: usize = 10_000;

/// What a file system takes as one name, in bytes.
const LONGEST_NAME: usize = 255;

/// The path of what `key` names, by the template in the job's configuration.
///
/// # Errors
///
/// A permanent failure, where the template or the key breaks a rule.
pub fn of(key: &str) -> Result<String, Failure> {
    Template::from_config()?.fill(key)
}

/// Whether an error says that there is nothing at the path.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Checks that a key is one plain name.
///
/// # Errors
///
/// A permanent failure that says which rule it breaks: a key is not empty, not
/// `.` or `..`, and has no `/`, `\` or control character (so it is no absolute
/// path either).
pub fn check_key(key: &str) -> Result<(), Failure> {
    check_name(key).map_err(|why| Failure::Permanent(format!("key {key:?} {why}")))
}

/// A path with `{key}` in it once, such as `videos/{key}.mp4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Cow<'static, str>,
    /// Where the placeholder begins.
    at: usize,
}

impl Template {
    /// The template in `path` of the job's configuration; `{key}` without one.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn from_config() -> Result<Self, Failure> {
        match run::config("path") {
            Some(text) => Self::parse(text),
            None => Ok(Self { text: Cow::Borrowed(PLACEHOLDER), at: 0 }),
        }
    }

    /// Reads a template.
    ///
    /// # Errors
    ///
    /// A permanent failure, unless `{key}` occurs once, and each part between
    /// slashes is a plain name. One leading slash is let pass: `/` is where a
    /// relative path starts from as well.
    pub fn parse(text: impl Into<Cow<'static, str>>) -> Result<Self, Failure> {
        let text = text.into();
        match placeholder(&text) {
            Ok(at) => Ok(Self { text, at }),
            Err(why) => Err(Failure::Permanent(format!(
                "config `path` is {text:?}, which {why}; \
                 it is to be a path with {PLACEHOLDER} in it once, such as \"videos/{PLACEHOLDER}\""
            ))),
        }
    }

    /// The answer for a `key` at whose path there is nothing: skipped, as what was
    /// to be done is done. Where the path's folder has a name that differs only in
    /// how its characters are composed, as names of other systems do, the answer
    /// says so; that takes the right to list.
    ///
    /// # Errors
    ///
    /// A transient failure, where the template's own folders are missing. They
    /// are the operator's, not the task's: a mount that is not mounted must not
    /// look like a thousand keys that are already gone.
    pub fn already_gone(&self, key: &str) -> Result<Outcome, Failure> {
        match self.folder() {
            Some(folder) if fs::metadata(folder).is_err_and(|error| is_gone(&error)) => Err(Failure::Transient(
                format!("the folder {folder} of config `path` is not there: is the right one mounted?"),
            )),
            _ => Ok(Outcome::skipped(match self.composed_otherwise(key) {
                Some(name) => format!(
                    "already gone; but {} stands there, the same name with its characters composed otherwise (NFC, NFD)",
                    composition::spelled(&name)
                ),
                None => "already gone".to_owned(),
            })),
        }
    }

    /// A name that stands where that of `key` would, and differs from it only in
    /// composition.
    fn composed_otherwise(&self, key: &str) -> Option<String> {
        if key.is_ascii() {
            return None;
        }
        let path = self.fill(key).ok()?;
        let from = self.text[..self.at].rfind('/').map_or(0, |slash| slash + 1);
        let wanted = path[from..].split('/').next()?;
        // A relative path is taken from the first mount.
        let folder = if from == 0 { "." } else { &path[..from] };
        let mut time = TimeLeft::of_call();
        let names = fs::read_dir(folder).ok()?.take(MOST_NAMES).take_while(|_| time.is_enough());
        names
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| composition::differs_only(name, wanted))
    }

    /// The folders before the part that has the key in it; none is the root.
    fn folder(&self) -> Option<&str> {
        let slash = self.text[..self.at].rfind('/')?;
        Some(&self.text[..slash]).filter(|folder| !folder.is_empty())
    }

    /// The path of what `key` names.
    ///
    /// # Errors
    ///
    /// A permanent failure, where the key is no plain name (see [`check_key`])
    /// or makes a name longer than 255 bytes.
    pub fn fill(&self, key: &str) -> Result<String, Failure> {
        check_key(key)?;
        let (before, after) = (&self.text[..self.at], &self.text[self.at + PLACEHOLDER.len()..]);
        let start = before.rfind('/').map_or(0, |slash| slash + 1);
        let end = after.find('/').unwrap_or(after.len());
        if before.len() - start + key.len() + end > LONGEST_NAME {
            return Err(Failure::Permanent(format!("key {key:?} makes a name longer than {LONGEST_NAME} bytes")));
        }
        let mut path = String::with_capacity(before.len() + key.len() + after.len());
        path.push_str(before);
        path.push_str(key);
        path.push_str(after);
        Ok(path)
    }
}

/// Where the only placeholder is, or what is wrong.
fn placeholder(text: &str) -> Result<usize, String> {
    for part in text.strip_prefix('/').unwrap_or(text).split('/') {
        check_name(part).map_err(|why| format!("has a part {part:?} that {why}"))?;
    }
    let at = text.find(PLACEHOLDER).ok_or_else(|| format!("lacks {PLACEHOLDER}"))?;
    if text[at + PLACEHOLDER.len()..].contains(PLACEHOLDER) {
        return Err(format!("has {PLACEHOLDER} twice"));
    }
    Ok(at)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => return Err("is empty"),
        "." | ".." => return Err("is a folder's own or parent's name"),
        _ => {}
    }
    for char in name.chars() {
        match char {
            '/' => return Err("contains `/`: it is to be one name"),
            '\\' => return Err("contains `\\`"),
            '\0' => return Err("contains NUL"),
            _ if char.is_control() => return Err("contains a control character"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Run;

    fn why<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
        match result {
            Err(Failure::Permanent(why)) => why,
            other => panic!("not a permanent failure: {other:?}"),
        }
    }

    #[test]
    fn a_key_is_one_plain_name() {
        for good in ["a", "a.mp4", "...", ".hidden", "a b", "日本", "~", "-rf", "C:"] {
            assert_eq!(check_key(good), Ok(()), "{good:?}");
        }
        for (bad, reason) in [
            ("", "is empty"),
            (".", "folder's own or parent's"),
            ("..", "folder's own or parent's"),
            ("/etc", "contains `/`"),
            ("a/b", "contains `/`"),
            ("a/", "contains `/`"),
            ("a\\b", "contains `\\`"),
            ("a\0", "contains NUL"),
            ("a\nb", "control character"),
            ("a\u{85}", "control character"),
        ] {
            let message = why(check_key(bad));
            assert!(message.contains(reason), "{bad:?}: {message}");
        }
    }

    #[test]
    fn a_template_puts_the_key_in_its_place() {
        for (template, path, folder) in [
            ("{key}", "k", None),
            ("/{key}", "/k", None),
            ("videos/{key}", "videos/k", Some("videos")),
            ("/a/b/{key}", "/a/b/k", Some("/a/b")),
            ("{key}.mp4", "k.mp4", None),
            ("v/hls-{key}/master", "v/hls-k/master", Some("v")),
        ] {
            let template = Template::parse(template).expect("a good template");
            assert_eq!(template.fill("k").as_deref(), Ok(path));
            assert_eq!(template.folder(), folder);
        }
    }

    #[test]
    fn a_bad_template_is_said_to_be_one() {
        for (bad, reason) in [
            ("", "is empty"),
            ("videos", "lacks {key}"),
            ("{key}/{key}", "twice"),
            ("../{key}", "parent's name"),
            ("a//{key}", "is empty"),
            ("//{key}", "is empty"),
            ("{key}/", "is empty"),
            ("a\\{key}", "contains `\\`"),
            ("a\n{key}", "control character"),
        ] {
            let message = why(Template::parse(bad));
            assert!(message.starts_with("config `path` is"), "{message}");
            assert!(message.contains(reason), "{bad:?}: {message}");
        }
    }

    #[test]
    fn a_missing_folder_is_not_a_key_that_is_gone() {
        let here = env!("CARGO_MANIFEST_DIR");
        let answer = |template: String| Template::parse(template)?.already_gone("key");
        assert_eq!(answer(format!("{here}/{{key}}")), Ok(Outcome::skipped("already gone")));
        let answer = answer(format!("{here}/nowhere/{{key}}"));
        assert!(matches!(&answer, Err(Failure::Transient(why)) if why.contains("nowhere of config")), "{answer:?}");
    }

    #[test]
    fn a_name_that_is_composed_otherwise_is_pointed_out() {
        let folder = std::env::temp_dir().join(format!("sweepd-sdk-composition-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("hls-cafe\u{301}.mp4"), "").expect("a file");
        let answer = |key: &str| {
            let template = format!("{}/hls-{{key}}.mp4", folder.display());
            Template::parse(template)?.already_gone(key)
        };
        let Ok(Outcome::Skipped(why)) = answer("caf\u{e9}") else { panic!("not skipped") };
        assert_eq!(
            why,
            "already gone; but hls-cafe\\u{301}.mp4 stands there, the same name with its characters composed otherwise \
             (NFC, NFD)"
        );
        assert_eq!(answer("caf\u{e8}x"), Ok(Outcome::skipped("already gone")));
        assert_eq!(answer("cafe"), Ok(Outcome::skipped("already gone")));
        fs::remove_dir_all(&folder).expect("cleared up");
    }

    #[test]
    fn a_name_fits_the_file_system() {
        let template = Template::parse("v/{key}.mp4").expect("a good template");
        assert!(template.fill(&"k".repeat(251)).is_ok());
        assert!(why(template.fill(&"k".repeat(252))).contains("longer than 255"));
    }

    #[test]
    fn the_template_is_the_jobs() {
        assert_eq!(of("k").as_deref(), Ok("k"));
        Run::new().config("path", "v/{key}").enter(|| {
            assert_eq!(of("k").as_deref(), Ok("v/k"));
        });
        Run::new().config("path", "v").enter(|| {
            assert!(why(of("k")).contains("lacks {key}"));
        });
    }
}
