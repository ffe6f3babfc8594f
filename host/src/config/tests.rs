//! Whole files, with and without overrides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::domain::job::Isolation;
use crate::domain::rights::Rights;

mod cluster;
mod schedules;

const SMALL: &str = "[[job]]\nname = \"video-clear\"\nplugin = \"plugins/video-clear.wasm\"\nmounts = [\"./videos\"]\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        for name in ["videos", "plugins", "archive"] {
            std::fs::create_dir(folder.path(name)).expect("a folder");
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().expect("its real path").join(name)
    }

    fn load_with(&self, text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = self.path("sweepd.toml");
        std::fs::write(&file, text).expect("written");
        Config::check(&file, env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn load(&self, text: &str) -> Config {
        self.load_with(text, &[]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Each problem as `line: message; help`.
    fn problems(&self, text: &str, env: &[(&str, &str)]) -> Vec<String> {
        let Err(ConfigError::Invalid { problems }) = self.load_with(text, env) else { panic!("accepted: {text}") };
        let root = format!("{}/", self.path("").display());
        let root = root.replace("//", "/");
        problems
            .iter()
            .map(|problem| {
                let help = problem.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
                format!("{problem}{help}").replace(&root, "")
            })
            .collect()
    }
}

#[test]
fn a_small_file_gets_its_defaults() {
    let folder = Folder::new();
    let config = folder.load(SMALL);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:25601");
    assert_eq!(config.server.max_body, 8 << 20);
    assert_eq!(config.state, folder.path("state"));
    assert_eq!(config.cache, folder.path("state/cache"));
    assert_eq!(config.sandbox.max_compiled, MAX_COMPILED);
    assert_eq!((config.sandbox.compile_time, config.sandbox.compile_memory), (COMPILE_TIME, COMPILE_MEMORY));
    assert_eq!(config.database.backend, Backend::Sqlite(folder.path("state/sweepd.db")));
    assert_eq!((config.database.max_connections, config.database.history), (8, Duration::from_hours(30 * 24)));
    assert_eq!(config.database.effects, Duration::from_hours(90 * 24));
    assert!(!config.node.is_empty() && config.labels.is_empty());
    let job = &config.jobs[0];
    assert_eq!(job.plugin, folder.path("plugins/video-clear.wasm"));
    assert_eq!((job.interval, job.capacity, job.concurrency), (Duration::from_secs(3), 500, 2));
    assert_eq!(job.isolation, Isolation::Thread);
    assert!(job.schedule.is_none() && job.labels.is_empty());
    assert_eq!(job.mounts.len(), 1);
    assert_eq!(job.mounts[0].host, folder.path("videos"));
    assert_eq!((job.mounts[0].guest.as_str(), job.mounts[0].rights), ("/", Rights::RW));
}

#[test]
fn every_default_is_within_its_bounds_and_every_key_is_read() {
    let folder = Folder::new();
    let mut text = String::new();
    for (path, field) in schema::all() {
        let value = match (path.as_str(), field.default) {
            ("node", _) => "\"a\"".to_owned(),
            ("cache", _) => "\"./cache\"".to_owned(),
            ("server.hosts", _) => "[\"videos.example.org\"]".to_owned(),
            ("server.video_delete_record" | "job.name", _) => "\"video-clear\"".to_owned(),
            ("job.plugin", _) => "\"plugins/a.wasm\"".to_owned(),
            ("labels" | "job.labels", _) => "[\"disk-a\"]".to_owned(),
            ("job.schedule", _) => "\"0 3 * * *\"".to_owned(),
            ("job.mounts", _) => "[{ path = \"videos\", at = \"/\", rights = \"ro\", cross_mounts = true }]".to_owned(),
            ("job.trash", _) => "\"24h\"".to_owned(),
            ("job.limits.fuel", _) => "1000".to_owned(),
            ("job.trash_min_free", _) => "\"10GiB\"".to_owned(),
            (budget, None) if budget.ends_with("_share") => "\"5%\"".to_owned(),
            (budget, None) if budget.starts_with("job.budget.") && field.kind == schema::Kind::Integer => {
                "2000".to_owned()
            }
            (budget, None) if budget.starts_with("job.budget.") => "\"20GiB\"".to_owned(),
            (_, Some(default)) if matches!(field.kind, schema::Kind::Integer | schema::Kind::Boolean) => {
                default.to_owned()
            }
            (_, Some(default)) => format!("{default:?}"),
            (path, None) => panic!("`{path}` has neither a default nor a line in this test"),
        };
        let path = path.strip_prefix("job.").map_or_else(|| path.clone(), |inner| format!("JOB.{inner}"));
        text.extend([&path, " = ", &value, "\n"]);
    }
    let (jobs, root): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("JOB."));
    let jobs: Vec<_> = jobs.iter().map(|line| &line[4..]).collect();
    let whole = format!("{}\n[[job]]\n{}\nconfig.path = \"x\"\n", root.join("\n"), jobs.join("\n"));
    let mut config = folder.load(&whole);
    assert_eq!(config.jobs[0].mounts[0].rights, Rights::RO);
    let small = folder.load(SMALL);
    config.jobs.clone_from(&small.jobs);
    assert_eq!(config.server.max_connections, small.server.max_connections);
}

#[test]
fn the_reference_names_every_key_with_its_default() {
    let reference = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/config.md"));
    for (path, field) in schema::all() {
        let row = reference.lines().find(|line| line.starts_with(&format!("| `{path}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/reference/config.md has no row for `{path}`"));
        if let Some(default) = field.default {
            assert!(row.contains(&format!("| `{default}` |")), "the default of `{path}` is `{default}`: {row}");
        }
    }
    for line in reference.lines().filter(|line| line.starts_with("| `")) {
        let path = line.split('`').nth(1).unwrap_or_default();
        let known = schema::all().iter().any(|(known, _)| known == path);
        assert!(known || path.starts_with("SWEEPD_") || path.starts_with("mount."), "`{path}` is no key");
    }
}

#[test]
fn the_example_is_right() {
    let folder = Folder::new();
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/video-clear/sweepd.toml"));
    let config = folder.load(text);
    assert_eq!(config.jobs[0].name.as_str(), "video-clear");
    assert_eq!(config.server.video_delete_record.as_ref(), Some(&config.jobs[0].name));
}

#[test]
fn problems_are_told_together_with_their_lines() {
    let folder = Folder::new();
    let text = "nod = \"a\"\n[server]\nlisten = \"localhost\"\nmax_request = 5\n[[job]]\nname = \"Video\"\n\
                plugin = 5\nintervall = \"3s\"\n[job.limits]\nmemory = \"1KiB\"\ntask_deadline = 30\n";
    assert_eq!(
        folder.problems(text, &[]),
        [
            "sweepd.toml:1: `nod`: unknown key; did you mean `node`?",
            "sweepd.toml:3: `server.listen`: `localhost` is no address to listen at; write an address and a port, \
             such as \"127.0.0.1:25601\", or \"0.0.0.0:25601\" for all of IPv4",
            "sweepd.toml:4: `server.max_request`: unknown key; did you mean `max_requests`?",
            "sweepd.toml:6: `job.name` of job `Video`: `Video` is no job name: use 1 to 64 of a-z, 0-9 and `-`, \
             beginning with a letter",
            "sweepd.toml:7: `job.plugin`: must be a string, not the number 5",
            "sweepd.toml:8: `job.intervall`: unknown key; did you mean `interval`?",
            "sweepd.toml:10: `job.limits.memory` of job `Video`: `1KiB` is out of bounds: from 1.0 MiB to 64.0 GiB",
            "sweepd.toml:11: `job.limits.task_deadline`: must be a duration as a string, such as \"3s\", not the number 30",
        ]
    );
}

#[test]
fn syntax_has_line_and_column() {
    let folder = Folder::new();
    let problems = folder.problems("[server]\nlisten = \n", &[]);
    assert!(problems[0].starts_with("sweepd.toml:2:"), "{problems:?}");
    assert!(folder.problems("a = 1\na = 2\n", &[])[0].starts_with("sweepd.toml:2:1: duplicate key"));
    assert!(matches!(
        Config::load(Path::new("/nowhere/sweepd.toml"), std::iter::empty()),
        Err(ConfigError::Read { .. })
    ));
}

#[test]
fn the_environment_overrides_every_level() {
    let folder = Folder::new();
    let text = format!("{SMALL}[job.config]\nMax-Age = \"1d\"\n");
    let env = [
        ("SWEEPD_NODE", "7"),
        ("SWEEPD_SERVER__LISTEN", "0.0.0.0:80"),
        ("SWEEPD_SERVER__HOSTS", "videos.example.org"),
        ("SWEEPD_SERVER__VIDEO_DELETE_RECORD", "video-clear"),
        ("SWEEPD_SERVER__MAX_REQUESTS", "7"),
        ("SWEEPD_JOB__VIDEO_CLEAR__INTERVAL", "5s"),
        ("SWEEPD_JOB__VIDEO_CLEAR__ISOLATION", "\"task\""),
        ("SWEEPD_JOB__VIDEO_CLEAR__LIMITS__MEMORY", "32MiB"),
        ("SWEEPD_JOB__VIDEO_CLEAR__MOUNTS", "./archive"),
        ("SWEEPD_JOB__VIDEO_CLEAR__CONFIG__PATH", "{key}.mp4"),
        ("SWEEPD_JOB__VIDEO_CLEAR__CONFIG__MAX_AGE", "1.50"),
        ("SWEEPD_CONFIG", "elsewhere"),
        ("SWEEPD_LOG", "debug"),
        ("SWEEPD_PORT", "tcp://10.0.0.1:25601"),
        ("SWEEPD_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let config = folder.load_with(&text, &env).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.node, "7");
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.server.hosts, ["videos.example.org"]);
    assert_eq!(config.server.max_requests, 7);
    let job = &config.jobs[0];
    assert_eq!(config.server.video_delete_record.as_ref(), Some(&job.name));
    assert_eq!((job.interval, job.isolation), (Duration::from_secs(5), Isolation::Task));
    assert_eq!(job.limits.memory, 32 << 20);
    assert_eq!(job.mounts[0].host, folder.path("archive"));
    assert_eq!(job.config["path"], "{key}.mp4");
    assert_eq!(job.config["Max-Age"], "1.50");
}

#[test]
fn wrong_overrides_are_refused() {
    let folder = Folder::new();
    let env = [
        ("SWEEPD_SERVER__LISTN", "0.0.0.0:80"),
        ("SWEEPD_JOB__VIDEO_CLEAN__INTERVAL", "5s"),
        ("SWEEPD_JOB__VIDEO_CLEAR__CAPACITY", "many"),
        ("SWEEPD_JOB__VIDEO_CLEAR__INTERVAL", "5"),
        ("SWEEPD_ZZZ", ""),
    ];
    let problems = folder.problems(SMALL, &env).join("\n");
    for wanted in [
        "environment variable SWEEPD_SERVER__LISTN: is no key of the configuration; did you mean SWEEPD_SERVER__LISTEN?",
        "variable SWEEPD_JOB__VIDEO_CLEAN__INTERVAL: is no key of the configuration; did you mean SWEEPD_JOB__VIDEO_CLEAR__INTERVAL?",
        "variable SWEEPD_JOB__VIDEO_CLEAR__CAPACITY: `job.capacity`: must be a whole number, not the string \"many\"",
        "variable SWEEPD_JOB__VIDEO_CLEAR__INTERVAL: `job.interval` of job `video-clear`: `5` is no duration",
        "variable SWEEPD_ZZZ: is no key",
    ] {
        assert!(problems.contains(wanted), "no `{wanted}` in\n{problems}");
    }
}

#[test]
fn mounts_keep_away_from_what_decides() {
    let folder = Folder::new();
    std::fs::write(folder.path("file"), "").expect("written");
    std::fs::create_dir_all(folder.path("state/cache")).expect("a folder");
    std::os::unix::fs::symlink(folder.path("plugins"), folder.path("innocent")).expect("a link");
    std::os::unix::fs::symlink("../archive/real.wasm", folder.path("plugins/linked.wasm")).expect("a link");
    let job = |plugin: &str, mounts: &str| format!("[[job]]\nname = \"a\"\nplugin = \"{plugin}\"\nmounts = {mounts}\n");
    for (plugin, mounts, wanted) in [
        (
            "plugins/a.wasm",
            "[\"none\"]",
            "none does not exist; is its disk mounted? Where it is to be a new folder: mkdir -p none",
        ),
        ("plugins/a.wasm", "[\"file\"]", "file is no directory"),
        ("plugins/a.wasm", "[\"/\"]", "the root directory cannot be mounted"),
        ("plugins/a.wasm", "[\"plugins\"]", "plugins reaches the plugin of job `a`"),
        ("plugins/a.wasm", "[\"innocent\"]", "plugins reaches the plugin of job `a`"),
        ("plugins/linked.wasm", "[\"archive\"]", "archive reaches the plugin of job `a`"),
        ("plugins/a.wasm", "[\".\"]", "reaches the configuration"),
        ("plugins/a.wasm", "[\"state/cache\"]", "state/cache reaches the state folder"),
        ("plugins/a.wasm", "[\"state\"]", "state reaches the state folder"),
        ("plugins/a.wasm", "[\"videos\", \"archive\"]", "has no `at`"),
        ("plugins/a.wasm", "[{ path = \"videos\", at = \"../x\" }]", "`../x` is no place for a mount"),
        ("plugins/a.wasm", "[{ path = \"videos\", rights = \"rwx\" }]", "`rwx` are no rights"),
        ("plugins/a.wasm", "[{ path = \"videos\", cross_mounts = \"yes\" }]", "must be true or false"),
        ("plugins/a.wasm", "[{ path = \"videos\", right = \"ro\" }]", "unknown key; a mount has: rights"),
        ("plugins/a.wasm", "[{ at = \"/\" }]", "has no `path`"),
        ("plugins/a.wasm", "[5]", "must be a path or a table with `path`, not the number 5"),
        (
            "plugins/a.wasm",
            "[{ path = \"videos\", at = \"/a\" }, { path = \"videos\", at = \"/b\" }]",
            "videos and videos overlap",
        ),
        (
            "plugins/a.wasm",
            "[{ path = \"videos\", at = \"/a\" }, { path = \"archive\", at = \"/a/\" }]",
            "the plugin would see both videos and archive at /a",
        ),
    ] {
        let problems = folder.problems(&job(plugin, mounts), &[]).join("\n");
        assert!(problems.contains(wanted), "{mounts}: no `{wanted}` in\n{problems}");
    }
    let both = "[{ path = \"videos\", at = \"/videos\" }, { path = \"archive\", at = \"/archive/\", rights = \"ro\" }]";
    let config = folder.load(&job("a.wasm", both));
    assert_eq!(config.jobs[0].mounts[1].guest, "/archive");
}

#[test]
fn tables_are_told_from_values() {
    let folder = Folder::new();
    for (text, wanted) in [
        ("", "`job`: there is no job"),
        ("[job]\nname = \"a\"\n", "`job`: must be a table, not a table; write [[job]], in double brackets"),
        ("server = 3\n", "`server`: must be a table, not the number 3; write [server]"),
        ("[[job]]\n", "`job.name`: is missing"),
        ("[[job]]\nname = \"a\"\n", "`job.plugin` of job `a`: is missing"),
        (
            &format!("{SMALL}[job.config]\na = [1]\n"),
            "`job.config.a`: must be a string, a number or a boolean, not a list",
        ),
        (&format!("{SMALL}{SMALL}"), "there are two jobs `video-clear`"),
        (&format!("{SMALL}capacity = 0\n"), "`0` is out of bounds: from 1 to 10000"),
        (&format!("{SMALL}capacity = -1\n"), "`-1` is no number"),
        (&format!("{SMALL}isolation = \"none\"\n"), "`none` is no isolation"),
        (
            &format!("{SMALL}[job.retry]\nbackoff = \"2h\"\n"),
            "`job.retry.max_backoff` of job `video-clear`: is shorter",
        ),
        (
            &format!("database.url = \"oracle://u:secret@x/y\"\n{SMALL}"),
            "`oracle` is no database that can be used; sweepd knows SQLite",
        ),
        (&format!("database.url = \"sqlite://\"\n{SMALL}"), "`sqlite://` names no file"),
        (
            &format!("server.video_delete_record = \"video-cleer\"\n{SMALL}"),
            "there is no job `video-cleer`; did you mean `video-clear`?",
        ),
        (
            &format!("sandbox.landlock = \"yes\"\n{SMALL}"),
            "`sandbox.landlock`: `yes` is no setting; \"required\" starts the host only where the kernel confines it",
        ),
        (
            &format!("{SMALL}[job.limits]\nfuel = 0\n"),
            "`job.limits.fuel` of job `video-clear`: `0` is no number from 1",
        ),
        (&format!("lease = \"1ms\"\n{SMALL}"), "`lease`: `1ms` is out of bounds: from 1s to 1h"),
    ] {
        let problems = folder.problems(text, &[]).join("\n");
        assert!(problems.contains(wanted), "no `{wanted}` in\n{problems}");
        assert!(!problems.contains("secret"));
    }
}

#[test]
fn mounts_of_two_jobs_are_the_same_or_apart() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("videos/inner")).expect("a folder");
    let jobs = |inner: &str| {
        let job = |name: &str, mount: &str| {
            format!("[[job]]\nname = \"{name}\"\nplugin = \"plugins/a.wasm\"\nmounts = [\"{mount}\"]\n")
        };
        format!("{}{}", job("outer", "videos"), job("inner", inner))
    };
    folder.load(&jobs("videos"));
    let problems = folder.problems(&jobs("videos/inner"), &[]).join("\n");
    assert!(problems.contains("of job `outer` lie one in the other"), "{problems}");
}
