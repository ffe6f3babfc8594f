//! The second wall: what the kernel keeps from the host itself, and so from any
//! guest that gets past the guard.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::stores::{MySqlHarness, PostgresHarness, SharedHarness};
use crate::support::{Site, Sweepd, guest, plugin};

const REQUIRED: &str = "[sandbox]\nlandlock = \"required\"\n";
const BEST_EFFORT: &str = "[sandbox]\nlandlock = \"best-effort\"\n";
const OFF: &str = "[sandbox]\nlandlock = \"off\"\n";

/// A guard that opens what a guest names from the root.
const HOLE: [(&str, &str); 1] = [("SWEEPD_MUTANT", "hole-in-the-guard")];

fn wall_of(host: &Sweepd) -> Value {
    host.get("/v1/jobs")["wall"].clone()
}

/// What became of the guest's attempt to read `path`.
fn reads(host: &Sweepd, path: &Path) -> String {
    tries(host, &path.display().to_string())
}

/// What the guest says of what it was told to try.
fn tries(host: &Sweepd, payload: &str) -> String {
    let body = json!({ "key": payload, "payload": payload });
    let (status, answer) = host.request("POST", "/v1/jobs/clear/tasks", Some(&body));
    assert!(status == 201 || status == 200, "{answer}");
    let id = serde_json::from_str::<Value>(&answer).unwrap()["id"].clone();
    let task = || host.get(&format!("/v1/tasks/{id}"));
    host.wait("it has tried", || task()["state"] == "done");
    task()["note"].as_str().unwrap().to_owned()
}

/// Files that are none of the host's business.
fn strange_files(site: &Site) -> Vec<PathBuf> {
    let neighbour = site.path().join("neighbour");
    fs::create_dir_all(&neighbour).unwrap();
    fs::write(neighbour.join("secret"), "s3cret").unwrap();
    let mut files: Vec<_> =
        ["/etc/passwd", "/proc/self/environ", "/proc/1/cmdline", "/proc/version", "/bin/sh"].map(PathBuf::from).into();
    files.extend([neighbour.join("secret"), site.path().join("sweepd.toml"), site.path().join("log")]);
    files
}

#[test]
fn a_hole_in_the_guard_is_closed_by_the_wall() {
    for (wall, open) in [(OFF, true), (REQUIRED, false)] {
        let site = Site::with_job(&guest("reads_passwd"), wall);
        let files = strange_files(&site);
        let host = site.try_start_with(&HOLE).unwrap();
        for file in &files {
            let said = reads(&host, file);
            assert_eq!(said.starts_with("read: "), open, "{wall}{}: {said}", file.display());
        }
        let inside = site.videos().join("inside");
        fs::write(&inside, "mine").unwrap();
        assert_eq!(reads(&host, &inside), "read: mine", "{wall}");
        let wall = wall_of(&host);
        assert_eq!(wall["enforced"], if open { "not" } else { "fully" }, "{wall}");
    }
}

#[test]
fn without_a_hole_the_guard_refuses_alone() {
    let site = Site::with_job(&guest("reads_passwd"), OFF);
    let host = site.start();
    for file in strange_files(&site) {
        let said = reads(&host, &file);
        assert!(said.starts_with("refused: "), "{}: {said}", file.display());
    }
}

/// It stands as long as the process: through swaps, and for threads that are
/// started late.
#[test]
fn the_wall_stands_through_a_swap() {
    let site = Site::with_job(&guest("noop"), REQUIRED);
    let host = site.try_start_with(&HOLE).unwrap();
    host.serving("clear");
    site.install(&guest("reads_passwd"));
    host.wait("it is swapped", || host.get("/v1/jobs/clear")["slot"]["generation"]["number"] == 2);
    assert!(reads(&host, Path::new("/etc/passwd")).starts_with("refused: "));
}

/// What a job may only read, and what the plugins are, the host itself cannot
/// change.
#[test]
fn a_read_only_mount_is_read_only_to_the_host() {
    for (wall, changed) in [(OFF, true), (REQUIRED, false)] {
        let site = Site::new();
        site.install(&guest("reads_passwd"));
        site.configure(&format!(
            "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\n\
             mounts = [{{ path = \"videos\", rights = \"ro\" }}]\n{wall}"
        ));
        let files = [site.videos().join("film"), site.path().join("plugins/other.wasm")];
        let host = site.try_start_with(&HOLE).unwrap();
        for file in files {
            fs::write(&file, "precious").unwrap();
            assert_eq!(reads(&host, &file), "read: precious", "{wall}");
            let said = tries(&host, &format!("write {}", file.display()));
            assert_eq!(said.starts_with("written: "), changed, "{wall}{said}");
            assert_eq!(fs::read_to_string(&file).unwrap() != "precious", changed, "{wall}");
        }
    }
}

/// As many walls as the kernel stacks: one more cannot be put up.
fn behind_sixteen_walls<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    use landlock::{AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _};
    std::thread::scope(|scope| {
        let confined = scope.spawn(|| {
            for _ in 0..16 {
                let rule = PathBeneath::new(PathFd::new("/").unwrap(), AccessFs::MakeBlock);
                let ruleset = Ruleset::default().handle_access(AccessFs::MakeBlock).unwrap().create().unwrap();
                ruleset.add_rule(rule).unwrap().restrict_self().unwrap();
            }
            what()
        });
        confined.join().unwrap()
    })
}

#[test]
fn a_wall_that_is_required_and_cannot_stand_stops_the_start() {
    let site = Site::with_job(&guest("noop"), REQUIRED);
    let Err(log) = behind_sixteen_walls(|| site.try_start()) else { panic!("it started") };
    for said in ["sandbox.landlock is \"required\", but the wall cannot be put up", "Linux 6.2", "\"best-effort\""] {
        assert!(log.contains(said), "no `{said}` in {log}");
    }
}

#[test]
fn a_wall_of_best_effort_that_cannot_stand_is_told_once() {
    let site = Site::with_job(&guest("noop"), BEST_EFFORT);
    let host = behind_sixteen_walls(|| site.start());
    host.enqueue("clear", &["a"]);
    host.drained("clear");
    let wall = wall_of(&host);
    assert_eq!((&wall["landlock"], &wall["enforced"]), (&json!("best-effort"), &json!("not")));
    assert!(wall["why"].as_str().is_some_and(|why| why.contains("Linux 6.2")), "{wall}");
    let config = fs::read_to_string(site.path().join("sweepd.toml")).unwrap();
    let config = config.replace("127.0.0.1:0", &host.address.to_string());
    fs::write(site.path().join("sweepd.toml"), config).unwrap();
    let status = site.command(&["status"]).output().unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains(", not confined") && said.contains("the wall (sandbox.landlock): "), "{said}");
    let log = host.whole_log();
    assert_eq!(log.matches("not fully confined").count(), 1, "{log}");
}

#[test]
fn the_check_of_a_configuration_shows_the_wall() {
    let site = Site::with_job(&guest("noop"), REQUIRED);
    let checked = site.command(&["config", "check"]).output().unwrap();
    assert!(String::from_utf8_lossy(&checked.stdout).contains("landlock  required"), "{checked:?}");
}

fn error_of(host: &Sweepd) -> String {
    let status = host.get("/v1/jobs/clear");
    status["slot"]["error"]["message"].as_str().unwrap_or_default().to_owned()
}

fn wait_for(host: &Sweepd, component: &Path) {
    host.wait("the plugin serves", || serving(host, component));
}

/// The folder of the link is within reach with all that is in it.
#[test]
fn a_link_leads_to_another_release() {
    let site = Site::with_job(&guest("noop"), REQUIRED);
    let releases = site.path().join("releases");
    let outside = site.path().join("outside");
    for (folder, component) in
        [(releases.join("1"), "noop"), (releases.join("2"), "noop_job"), (outside.clone(), "stamps")]
    {
        fs::create_dir_all(&folder).unwrap();
        fs::copy(guest(component), folder.join("plugin.wasm")).unwrap();
    }
    fs::remove_file(site.plugin_file()).unwrap();
    symlink(releases.join("current/plugin.wasm"), site.plugin_file()).unwrap();
    let lead_to = |target: &Path| {
        symlink(target, releases.join("new")).unwrap();
        fs::rename(releases.join("new"), releases.join("current")).unwrap();
    };
    lead_to(Path::new("1"));
    let host = site.start();
    wait_for(&host, &guest("noop"));
    lead_to(Path::new("2"));
    wait_for(&host, &guest("noop_job"));
    // A link that leads elsewhere needs a restart, and says so.
    lead_to(&outside);
    host.wait("the wall is named", || error_of(&host).contains("restart the host"));
    assert!(error_of(&host).contains("sandbox.landlock"), "{}", error_of(&host));
    wait_for(&host, &guest("noop_job"));
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    wait_for(&host, &guest("stamps"));
}

#[test]
fn a_folder_in_the_place_of_a_mount_needs_a_restart_and_says_so() {
    let site = Site::with_job(&plugin("video-clear"), REQUIRED);
    let host = site.start();
    host.wait("it is marked", || site.videos().join(".sweepd-mount").exists());
    fs::rename(site.videos(), site.path().join("old")).unwrap();
    fs::create_dir(site.videos()).unwrap();
    // As if it were the same disk, mounted anew.
    fs::copy(site.path().join("old/.sweepd-mount"), site.videos().join(".sweepd-mount")).unwrap();
    fs::write(site.videos().join("one"), "").unwrap();
    let ids = host.enqueue("clear", &["one"]);
    host.wait("the wall is named", || {
        host.get("/v1/jobs/clear")["last_error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("restart the host"))
    });
    assert_eq!(host.get(&format!("/v1/tasks/{}", ids[0]))["attempts"], 0);
    assert!(site.videos().join("one").exists());
    assert_eq!(host.stop(), Some(0));
    let host = site.start();
    host.drained("clear");
    assert!(!site.videos().join("one").exists());
}

/// The compiler is the program that runs, not the one that lies there by now.
#[test]
fn an_upgraded_program_still_compiles() {
    let site = Site::with_job(&guest("noop"), REQUIRED).with_own_program();
    let host = site.start();
    wait_for(&host, &guest("noop"));
    fs::write(site.path().join("next"), "not even a program").unwrap();
    fs::rename(site.path().join("next"), site.path().join("sweepd")).unwrap();
    site.install(&guest("stamps"));
    wait_for(&host, &guest("stamps"));
}

/// By TCP and by name, and by the socket of this machine.
fn a_server_is_reached<H: SharedHarness>(more: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(database) = runtime.block_on(async { if H::ready().await { Some(H::fresh().await) } else { None } })
    else {
        return;
    };
    let site = Site::with_job(&guest("noop"), "");
    for more in more {
        let url = database.url().replace("127.0.0.1", "localhost");
        let url = format!("{url}{}{more}", if url.contains('?') { "&" } else { "?" });
        let url = url.replace("?&", "?");
        site.configure(&format!(
            "[database]\nurl = \"{url}\"\n[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\n\
             mounts = [\"videos\"]\ninterval = \"200ms\"\n{REQUIRED}"
        ));
        let host = site.start();
        host.enqueue("clear", &["a", "b"]);
        host.drained("clear");
        assert_eq!(wall_of(&host)["enforced"], "fully");
        assert_eq!(host.stop(), Some(0));
    }
}

#[test]
fn postgres_is_reached_through_the_wall() {
    let socket = ["/run/postgresql", "/var/run/postgresql", "/tmp"];
    let socket = socket.into_iter().find(|folder| Path::new(folder).join(".s.PGSQL.5432").exists());
    let mut ways = vec!["sslmode=disable".to_owned(), "sslmode=prefer".to_owned()];
    ways.extend(socket.map(|folder| format!("host={folder}")));
    a_server_is_reached::<PostgresHarness>(&ways.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn mariadb_is_reached_through_the_wall() {
    let socket = ["/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/tmp/mysql.sock"];
    let socket = socket.into_iter().find(|socket| Path::new(socket).exists());
    let mut ways = vec!["ssl-mode=preferred".to_owned()];
    ways.extend(socket.map(|socket| format!("socket={socket}")));
    a_server_is_reached::<MySqlHarness>(&ways.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_guest_is_given_its_mounts_and_nothing_else() {
    let site = Site::with_job(&guest("sees_descriptors"), REQUIRED);
    let host = site.try_start_with(&[("SECRET_OF_THE_HOST", "s3cret")]).unwrap();
    let ids = host.enqueue("clear", &["look"]);
    host.drained("clear");
    let task = host.get(&format!("/v1/tasks/{}", ids[0]));
    assert_eq!(task["note"], "variables=0 arguments=0 folder=false open=/ input=0", "{task}");
}

/// What a process has open, as `number file`.
fn open_in(process: &Path) -> Vec<String> {
    let Ok(open) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    let open =
        open.flatten().filter_map(|fd| Some((fd.file_name().into_string().ok()?, fs::read_link(fd.path()).ok()?)));
    open.map(|(number, file)| format!("{number} {}", file.display())).collect()
}

/// What the compiler of a running host has open, while one is at work.
fn open_in_compiler(host: &Sweepd) -> Vec<String> {
    let host = host.pid().to_string();
    let is_compiler = |process: &Path| {
        let is_child = fs::read_to_string(process.join("stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.split(' ').nth(2) == Some(&host)));
        // Before it becomes the compiler it is called like the host.
        is_child
            && fs::read(process.join("cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"compile"))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    processes.into_iter().find(|process| is_compiler(process)).map_or_else(Vec::new, |process| open_in(&process))
}

#[test]
fn the_compiler_inherits_nothing_that_the_host_opened() {
    let site = Site::with_job(&guest("noop"), REQUIRED);
    // What this process was started with, the host was started with, too.
    let ours = open_in(Path::new("/proc/self"));
    let host = site.start();
    host.serving("clear");
    let mut looked = 0;
    for component in ["stamps", "prints", "sleeps", "discovers", "climbs_out", "moves_a", "opens_socket", "slow"] {
        site.install(&guest(component));
        host.wait("the plugin serves", || {
            let open = open_in_compiler(&host);
            looked += usize::from(!open.is_empty());
            for file in &open {
                let is_standard = ["0 ", "1 ", "2 "].iter().any(|own| file.starts_with(own));
                assert!(is_standard || ours.contains(file), "the compiler has {file} open");
            }
            serving(&host, &guest(component))
        });
    }
    assert!(looked > 0, "no compiler was seen at work");
}

fn serving(host: &Sweepd, component: &Path) -> bool {
    let digest = sweepd::domain::digest::Digest::of(&fs::read(component).unwrap()).to_string();
    host.get("/v1/jobs/clear")["slot"]["generation"]["digest"] == digest.as_str()
}
