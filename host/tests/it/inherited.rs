//! What a host inherits: limits of descriptors and of the size of files, and a
//! sandbox above it that refuses calls.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::cli::run;
use crate::support::{Site, Sweepd, guest, plugin};

/// Clients that connect, say nothing, and connect again when they are thrown out.
struct Crowd {
    host: SocketAddr,
    streams: Vec<TcpStream>,
}

impl Crowd {
    /// So many are there while `meanwhile` goes on.
    fn comes(host: &Sweepd, many: usize, meanwhile: impl FnOnce()) {
        /// Sends the crowd home, also where a test fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        // This process has as many descriptors as it may.
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
        let over = AtomicBool::new(false);
        let streams = (0..many).map(|_| connect(host.address)).collect();
        let crowd = Self { host: host.address, streams };
        thread::scope(|scope| {
            let _over = Over(&over);
            let stop = &over;
            scope.spawn(move || crowd.stays(stop));
            meanwhile();
        });
    }

    fn stays(mut self, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            for stream in &mut self.streams {
                if matches!(stream.peek(&mut [0]), Ok(0)) {
                    *stream = connect(self.host);
                }
            }
            thread::yield_now();
        }
    }
}

fn connect(host: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(host).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

fn videos(site: &Site, prefix: &str) -> Vec<String> {
    let names: Vec<_> = (0..20).map(|number| format!("{prefix}-{number}")).collect();
    for name in &names {
        fs::write(site.videos().join(name), "x").unwrap();
    }
    names
}

fn set_server(site: &Site, line: &str) {
    let file = site.path().join("sweepd.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, text.replace("[server]\n", &format!("[server]\n{line}\n"))).unwrap();
}

#[test]
fn a_soft_limit_of_descriptors_is_raised() {
    let site = Site::with_job(&plugin("video-clear"), "");
    let host = site.try_start_after("ulimit -Sn 256").unwrap();
    host.serving("clear");
    Crowd::comes(&host, 1500, || {
        let names = videos(&site, "a");
        host.enqueue("clear", &names);
        host.drained("clear");
    });
    let log = host.whole_log();
    assert!(!log.contains("os error 24") && !log.contains("may be open"), "{log}");
}

#[test]
fn thousands_of_idle_connections_take_no_descriptor_from_jobs_and_database() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1h\"\n");
    set_server(&site, "header_timeout = \"500ms\"");
    let host = site.try_start_after("ulimit -n 1024").unwrap();
    host.serving("clear");
    host.says("connections of clients at a time instead of 4096");
    Crowd::comes(&host, 3000, || {
        for round in ["a", "b", "c"] {
            let names = videos(&site, round);
            let keys: Vec<_> = names.iter().map(String::as_str).collect();
            // By the database: a request would wait behind the crowd.
            run(&site, &[&["enqueue", "clear"], &keys[..]].concat()).exits(0);
            host.wait("they are cleared", || names.iter().all(|name| !site.videos().join(name).exists()));
        }
        // Another plugin needs a compiler, its pipes and its cache.
        site.install(&guest("noop"));
        host.says("\"generation\":2");
    });
    // The crowd is gone, and its places are free.
    host.enqueue("clear", &["after"]);
    host.drained("clear");
    let log = host.whole_log();
    assert!(!log.contains("os error 24"), "{log}");
}

#[test]
fn a_limit_of_descriptors_that_cannot_do_is_refused_with_what_would() {
    let site = Site::with_job(&guest("noop"), "");
    let log = site.try_start_after("ulimit -n 128").err().expect("it is refused");
    assert!(log.contains("only 128 files may be open at a time, and this configuration needs "), "{log}");
    assert!(log.contains("LimitNOFILE="), "{log}");
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_and_not_the_end() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.try_start_after("prlimit --pid $$ --fsize=16777216").unwrap();
    host.serving("clear");
    host.says("no file of this host may become larger than 16.0 MiB (ulimit -f)");
    assert!(host.request("POST", "/v1/jobs/clear/pause", None).0 < 300);
    let payload = "x".repeat(60_000);
    let mut acknowledged = 0;
    let refused = (0..1000).find_map(|number| {
        let task = json!([{ "key": format!("{number}"), "payload": payload }]);
        match host.request("POST", "/v1/jobs/clear/tasks", Some(&task)) {
            (201, _) => {
                acknowledged += 1;
                None
            }
            refused => Some(refused),
        }
    });
    let (status, body) = refused.expect("60 MB do not fit");
    assert_eq!(status, 507, "{body}\n{}", host.log());
    host.says("ulimit -f of this process");
    assert_eq!(host.request("GET", "/healthz", None).0, 200);
    assert_eq!(host.tasks("clear", "pending").len(), acknowledged, "no half state");
    assert!(host.request("POST", "/v1/jobs/clear/resume", None).0 < 300);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "done").len(), acknowledged);
    assert_eq!(host.stop(), Some(0));
}

/// A guest of which a file becomes too large is told so, and nobody ends.
#[test]
fn what_a_guest_writes_beyond_the_limit_is_its_own_error() {
    let site = Site::with_job(&guest("makes_much"), "[job.retry]\nmax_attempts = 1\n");
    let host = site.try_start_after("prlimit --pid $$ --fsize=8388608").unwrap();
    host.enqueue("clear", &["write 20000", "grow 20000", "files 3"]);
    host.drained("clear");
    let dead = host.tasks("clear", "dead");
    let notes: Vec<_> = dead.iter().map(|task| task["note"].as_str().unwrap()).collect();
    assert!(notes.len() == 2 && notes.iter().all(|note| note.contains("ile too large")), "{notes:?}");
    assert_eq!(fs::metadata(site.videos().join("written")).unwrap().len(), 8 << 20);
    assert!(site.videos().join("file-2").exists());
    assert_eq!(host.stop(), Some(0));
}

/// A sandbox that answers EPERM to calls that it does not know, set up by Python:
/// `exec`s the rest of its arguments.
const LAUNCHER: &str = r#"
import ctypes, os, platform, struct, sys
calls = {
    # renameat2, fallocate, openat2, statx, landlock (three), faccessat2, pidfd_open, close_range, copy_file_range,
    # epoll_pwait2, fchmodat2, preadv2, pwritev2
    "x86_64": [316, 285, 437, 332, 444, 445, 446, 439, 434, 436, 326, 441, 452, 327, 328],
    "aarch64": [276, 47, 437, 291, 444, 445, 446, 439, 434, 436, 285, 441, 452, 286, 287],
}[platform.machine()]
ALLOW, EPERM = 0x7fff0000, 0x00050000 | 1
program = [(0x20, 0, 0, 0)]                      # the number of the call
for at, number in enumerate(calls):
    program.append((0x15, len(calls) - at, 0, number))  # equal: to the last instruction
program += [(0x06, 0, 0, ALLOW), (0x06, 0, 0, EPERM)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
filter = Filter(len(program), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
assert libc.prctl(22, 2, ctypes.byref(filter)) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn launcher(site: &Site) -> String {
    let file = site.path().join("launcher.py");
    fs::write(&file, LAUNCHER).unwrap();
    format!("set -- python3 {} \"$@\"", file.display())
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_sandbox_above_that_refuses_newer_calls_is_got_along_with() {
    let site = Site::with_job(&plugin("video-clear"), "trash = \"1h\"\n");
    let names = videos(&site, "a");
    fs::create_dir_all(site.videos().join("tree/of/folders")).unwrap();
    fs::write(site.videos().join("tree/of/folders/file"), "x").unwrap();
    let host = site.try_start_after(&launcher(&site)).unwrap();
    host.serving("clear");
    host.enqueue("clear", &names);
    host.enqueue("clear", &["tree"]);
    host.drained("clear");
    assert_eq!(host.tasks("clear", "dead"), [] as [serde_json::Value; 0], "{}", host.log());
    assert!(names.iter().all(|name| !site.videos().join(name).exists()) && !site.videos().join("tree").exists());
    assert_eq!(count(&site.videos().join(".sweepd-trash")), names.len() + 1);
    run(&site, &["trash", "restore", "clear", "--task", "1"]).exits(0);
    assert!(site.videos().join(&names[0]).exists());
    let status = host.get("/v1/jobs");
    assert_eq!(status["wall"]["enforced"], "not", "{status}");
    assert_eq!(host.stop(), Some(0));
}
