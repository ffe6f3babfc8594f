//! The examples run as they are told to.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::plugin;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `examples/swap-policy` in a copy of the repository that has nothing else.
struct SwapPolicy {
    root: TempDir,
    /// Where nobody listens, so that the test does not depend on the example's
    /// port.
    address: SocketAddr,
}

impl SwapPolicy {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("site-").tempdir_in(repository().join("target")).unwrap();
        let copy = Self { root, address: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
        for folder in [copy.folder(), copy.temp(), copy.root.path().join("target")] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in ["sweepd.toml", "swap.sh"] {
            fs::copy(repository().join("examples/swap-policy").join(file), copy.folder().join(file)).unwrap();
        }
        let plugins = plugin("video-clear").canonicalize().unwrap().parent().unwrap().to_owned();
        symlink(plugins, copy.root.path().join("target/plugins")).unwrap();
        copy
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("examples/swap-policy")
    }

    fn temp(&self) -> PathBuf {
        self.root.path().join("temp")
    }

    fn script(&self) -> Command {
        let mut command = Command::new(self.folder().join("swap.sh"));
        crate::support::without_ours(&mut command)
            .env("SWEEPD_BIN", env!("CARGO_BIN_EXE_sweepd"))
            .env("SWEEPD_SERVER__LISTEN", self.address.to_string())
            .env("TMPDIR", self.temp())
            .stdin(Stdio::null());
        command
    }

    fn assert_nothing_is_left(&self) {
        assert!(TcpStream::connect(self.address).is_err(), "the host still runs");
        assert_eq!(fs::read_dir(self.temp()).unwrap().count(), 0, "temporary files are left");
    }
}

#[test]
fn policies_are_swapped_under_load() {
    let copy = SwapPolicy::new();
    let output = copy.script().output().unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{said}\n{errors}");
    for part in ["generation 10: video-archive serves", " 20000 in all, of 20000; 0 left", "everything adds up"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    // Not only by the script's own account.
    let archived = fs::read_dir(copy.folder().join("videos/archive")).unwrap().count();
    assert!((1..20_000).contains(&archived), "{archived}");
    assert!(said.contains(&format!("{archived} are in ./videos/archive")), "{said}");
    copy.assert_nothing_is_left();
}

#[test]
fn an_interrupted_swap_leaves_nothing_running() {
    let copy = SwapPolicy::new();
    let mut child = copy.script().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("generation 2: ")), "it ended early");
    assert!(TcpStream::connect(copy.address).is_ok(), "the host runs");
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    copy.assert_nothing_is_left();
}

#[test]
fn the_script_says_what_is_missing_and_empties_no_folder_of_others() {
    let copy = SwapPolicy::new();
    let refused = |command: &mut Command, why: &str| {
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "`{why}` is not in:\n{said}");
    };
    refused(copy.script().env("SWEEPD_BIN", "/nowhere/sweepd"), "cargo build --release -p sweepd");
    refused(copy.script().env_remove("SWEEPD_BIN"), "cargo build --release -p sweepd");
    let mine = copy.folder().join("videos/mine.mp4");
    fs::create_dir(copy.folder().join("videos")).unwrap();
    fs::write(&mine, "").unwrap();
    refused(&mut copy.script(), "move it away");
    assert!(mine.exists());
    fs::remove_file(copy.root.path().join("target/plugins")).unwrap();
    refused(&mut copy.script(), "cargo xtask plugins");
    copy.assert_nothing_is_left();
}

#[test]
fn every_example_has_a_right_configuration() {
    let mut checked = Vec::new();
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let entry = entry.unwrap();
        let copy = tempfile::tempdir().unwrap();
        for folder in ["videos", "plugins"] {
            fs::create_dir(copy.path().join(folder)).unwrap();
        }
        let file = copy.path().join("sweepd.toml");
        fs::copy(entry.path().join("sweepd.toml"), &file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sweepd"));
        let output = crate::support::without_ours(&mut command)
            .args(["config", "check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{:?}: {}", entry.path(), String::from_utf8_lossy(&output.stderr));
        assert!(said.starts_with("ok: "), "{:?}: {said}", entry.path());
        checked.push(entry.file_name().into_string().unwrap());
    }
    checked.sort();
    assert_eq!(checked, ["swap-policy", "video-clear"]);
}
