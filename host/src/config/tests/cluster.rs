//! What many nodes on one database need: its address, and labels.

use super::*;

#[test]
fn a_server_is_named_by_its_address() {
    let folder = Folder::new();
    let url = "postgresql://sweepd:pa%40ss@db.example.org:5432/queue?sslmode=verify-full";
    let config = folder.load(&format!("[database]\nurl = \"{url}\"\nmax_connections = 2\nhistory = \"1m\"\n{SMALL}"));
    let Backend::Postgres(server) = &config.database.backend else { panic!("{:?}", config.database) };
    assert_eq!(server.expose(), url);
    assert_eq!(server, &config.database.url);
    assert_eq!((config.database.max_connections, config.database.history), (2, Duration::from_mins(1)));
    let shown = format!("{config:?} {}", config.database.url);
    assert!(shown.contains("sweepd:***@db.example.org:5432/queue?sslmode=verify-full"), "{shown}");
    assert!(!shown.contains("pa%40ss") && !shown.contains("pa@ss"), "{shown}");
}

#[test]
fn a_wrong_database_is_told_without_its_password() {
    let folder = Folder::new();
    for (lines, wanted) in [
        (
            "url = \"postgres://u:secret@/q\"",
            "sweepd.toml:2: `database.url`: names no host; write postgres://USER:PASSWORD@HOST/DATABASE; in user",
        ),
        ("url = \"mysql://u:secret@h\"", "sweepd.toml:2: `database.url`: names no database; write mysql://USER:"),
        (
            "url = \"mariadb://u:sec/secret@h/q\"",
            "sweepd.toml:2: `database.url`: has a character that must be percent-encoded; write mariadb://USER:",
        ),
        ("url = [\"mysql://u:secret@h/q\"]", "sweepd.toml:2: `database.url`: must be a string, not a list"),
        ("max_connections = 1", "sweepd.toml:2: `database.max_connections`: `1` is out of bounds: from 2 to 1000"),
        ("max_connections = 1001", "sweepd.toml:2: `database.max_connections`: `1001` is out of bounds"),
        ("history = \"59s\"", "sweepd.toml:2: `database.history`: `59s` is out of bounds: from 1m to "),
    ] {
        let problems = folder.problems(&format!("[database]\n{lines}\n{SMALL}"), &[]);
        assert!(problems.len() == 1 && problems[0].starts_with(wanted), "no `{wanted}` in\n{problems:?}");
        assert!(!problems[0].contains("secret"), "{problems:?}");
    }
}

#[test]
fn labels_bind_jobs_to_nodes() {
    let folder = Folder::new();
    let config = folder.load(&format!("labels = [\"ssd\", \"disk-a\", \"ssd\"]\n{SMALL}labels = [\"disk-a\"]\n"));
    let texts: Vec<_> = config.labels.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["disk-a", "ssd"]);
    let job = &config.jobs[0];
    assert!(job.runs_on(&config.labels) && job.runs_on(&config.labels[..1]));
    assert!(!job.runs_on(&config.labels[1..]) && !job.runs_on(&[]));
    assert!(folder.load(SMALL).jobs[0].runs_on(&[]));
    for (text, wanted) in [
        (
            format!("labels = [\"ssd\",\n\"Disk A\"]\n{SMALL}"),
            "sweepd.toml:2: `labels`: `Disk A` is no label: use 1 to 64 of a-z, 0-9, `-`, `_`, `.` and `:`; write each",
        ),
        (format!("{SMALL}labels = [\"\"]\n"), "sweepd.toml:5: `job.labels` of job `video-clear`: `` is no label"),
        (format!("{SMALL}labels = \"disk-a\"\n"), "sweepd.toml:5: `job.labels`: must be a list of strings, not the"),
    ] {
        let problems = folder.problems(&text, &[]);
        assert!(problems.len() == 1 && problems[0].starts_with(wanted), "no `{wanted}` in\n{problems:?}");
    }
}

#[test]
fn the_environment_sets_labels_and_database() {
    let folder = Folder::new();
    let env = [
        ("SWEEPD_LABELS", "[\"ssd\", \"disk-a\"]"),
        ("SWEEPD_JOB__VIDEO_CLEAR__LABELS", "disk-a"),
        ("SWEEPD_DATABASE__URL", "mariadb://u:secret@h/q"),
        ("SWEEPD_DATABASE__MAX_CONNECTIONS", "40"),
        ("SWEEPD_DATABASE__HISTORY", "7 days"),
    ];
    let config = folder.load_with(&format!("labels = [\"old\"]\n{SMALL}"), &env).expect("a configuration");
    assert_eq!(config.labels.iter().map(ToString::to_string).collect::<Vec<_>>(), ["disk-a", "ssd"]);
    assert_eq!(config.jobs[0].labels, config.labels[..1]);
    assert_eq!(config.database.backend, Backend::MySql(config.database.url.clone()));
    assert_eq!((config.database.max_connections, config.database.history), (40, Duration::from_hours(7 * 24)));

    // One alone may be quoted as well as not, and none at all is a list too.
    let env = [("SWEEPD_LABELS", "\"ssd\""), ("SWEEPD_JOB__VIDEO_CLEAR__LABELS", "[]")];
    let config = folder.load_with(SMALL, &env).expect("a configuration");
    assert_eq!(config.labels.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ssd"]);
    assert!(config.jobs[0].labels.is_empty());

    let problems = folder.problems(SMALL, &[("SWEEPD_LABELS", "disk-a,ssd"), ("SWEEPD_DATABASE__URL", "u:secret@h/q")]);
    let wanted = "environment variable SWEEPD_LABELS: `labels`: `disk-a,ssd` is no label";
    assert!(problems.iter().any(|problem| problem.starts_with(wanted)), "{problems:?}");
    let wanted = "environment variable SWEEPD_DATABASE__URL: `database.url`: is no address; sweepd knows SQLite";
    assert!(problems.iter().any(|problem| problem.starts_with(wanted)), "{problems:?}");
    assert!(!problems.join("\n").contains("secret"));
}
