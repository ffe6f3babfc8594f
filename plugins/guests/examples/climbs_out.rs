//! Tries to get at what is beside its mount, by every way that it knows.
//!
//! It wants a file `outside.txt` beside the mount and `inside.txt` in it; the
//! payload, where there is one, is the absolute path of the folder around the
//! mount. The note is `reached: ` and what succeeded, `; linked: ` and the links
//! that could be made.

use std::fs::{self, OpenOptions};

use sweepd_guests::said;
use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

/// Ways to write where the outside is, should `..` or a link lead there.
const UPS: [&str; 6] = ["..", "../..", "/..", "./..", "folder/../..", "folder/./../.."];

/// Links and where they point.
const LINKS: [(&str, &str); 5] = [
    ("link-up", ".."),
    ("link-file", "../outside.txt"),
    ("link-root", "/"),
    ("link-etc", "/etc"),
    ("link-proc", "/proc/self"),
];

/// Everything that can be tried in a folder outside.
fn tries(up: &str, reached: &mut Vec<String>) {
    let outside = format!("{up}/outside.txt");
    let made = format!("{up}/made-by-guest");
    let mut note = |what: &str, ok: bool| {
        if ok {
            reached.push(format!("{what} {up}"));
        }
    };
    note("read", fs::read(&outside).is_ok());
    note("stat", fs::metadata(&outside).is_ok());
    note("list", is_outside(up));
    note("write", fs::write(&made, "x").is_ok());
    note("append", OpenOptions::new().append(true).open(&outside).is_ok());
    note("mkdir", fs::create_dir(format!("{up}/folder-by-guest")).is_ok());
    note("copy", fs::copy("inside.txt", &made).is_ok());
    note("hard link in", fs::hard_link(&outside, "stolen").is_ok());
    note("hard link out", fs::hard_link("inside.txt", &made).is_ok());
    note("rename in", fs::rename(&outside, "moved").is_ok());
    note("rename out", fs::rename("inside.txt", &made).is_ok());
    note("remove", fs::remove_file(&outside).is_ok());
}

/// Whether the folder can be listed and has what only the outside has.
fn is_outside(folder: &str) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() == "outside.txt"))
}

#[allow(deprecated, reason = "the only stable way to make a link on WASI")]
fn link(to: &str, name: &str) -> bool {
    fs::soft_link(to, name).is_ok()
}

impl Executor for Guest {
    fn execute(task: &Task) -> Result<Outcome, Failure> {
        let (mut reached, mut linked) = (Vec::new(), Vec::new());
        let made = fs::create_dir("folder");
        println!("{}", said("folder", made));
        for up in UPS {
            tries(up, &mut reached);
        }
        if let Some(around) = &task.payload {
            tries(around, &mut reached);
        }
        for (name, to) in LINKS {
            if link(to, name) {
                linked.push(name);
            }
        }
        tries("link-up", &mut reached);
        for path in [
            "link-file",
            "link-root/etc/passwd",
            "link-etc/passwd",
            "link-proc/environ",
            "/etc/passwd",
            "/proc/self/environ",
            "/dev/null",
        ] {
            if fs::read(path).is_ok() {
                reached.push(format!("read {path}"));
            }
        }
        if fs::write("link-file", "x").is_ok() {
            reached.push("write link-file".to_owned());
        }
        Ok(Outcome::done_with(format!("reached: {}; linked: {}", reached.join(", "), linked.join(", "))))
    }
}

sweepd_guests::runs_all!(Guest);
