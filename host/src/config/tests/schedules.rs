//! `schedule` and `time_zone`, from the file and from the environment.

use super::*;
use crate::domain::schedule::Schedule;

#[test]
fn a_job_scans_by_its_schedule() {
    let folder = Folder::new();
    for (lines, cron, zone) in [
        ("schedule = \"0 3 * * *\"", "0 3 * * *", "UTC"),
        ("schedule = \"0  3 * * MON-FRI\"\ntime_zone = \"Europe/Berlin\"", "0 3 * * MON-FRI", "Europe/Berlin"),
    ] {
        let config = folder.load(&format!("{SMALL}{lines}\n"));
        assert_eq!(config.jobs[0].schedule, Some(Schedule::new(cron, zone).expect("a schedule")));
        assert_eq!(config.jobs[0].interval, Duration::from_secs(3));
    }
}

#[test]
fn a_wrong_schedule_is_told_where_it_stands() {
    let folder = Folder::new();
    for (lines, wanted) in [
        (
            "schedule = \"0 25 * * *\"",
            "sweepd.toml:5: `job.schedule` of job `video-clear`: `25` is no hour; use 0-23, or `*`; also",
        ),
        ("schedule = \"0 3 30 2 *\"", "sweepd.toml:5: `job.schedule` of job `video-clear`: `0 3 30 2 *` never comes"),
        (
            "schedule = \"0 3 * * *\"\ntime_zone = \"Europe/Berln\"",
            "sweepd.toml:6: `job.time_zone` of job `video-clear`: `Europe/Berln` is no time zone; did you mean \
             `Europe/Berlin`?",
        ),
        (
            "time_zone = \"Europe/Berlin\"",
            "sweepd.toml:5: `job.time_zone` of job `video-clear`: stands without `schedule`; write schedule = ",
        ),
        ("schedule = 3", "sweepd.toml:5: `job.schedule`: must be a string, not the number 3"),
        ("shedule = \"0 3 * * *\"", "sweepd.toml:5: `job.shedule`: unknown key; did you mean `schedule`?"),
    ] {
        let problems = folder.problems(&format!("{SMALL}{lines}\n"), &[]);
        assert!(problems.len() == 1 && problems[0].starts_with(wanted), "no `{wanted}` in\n{problems:?}");
    }
}

#[test]
fn the_environment_sets_a_schedule() {
    let folder = Folder::new();
    let env = [
        ("SWEEPD_JOB__VIDEO_CLEAR__SCHEDULE", "*/15 * * * *"),
        ("SWEEPD_JOB__VIDEO_CLEAR__TIME_ZONE", "Australia/Lord_Howe"),
    ];
    let config = folder.load_with(&format!("{SMALL}schedule = \"0 3 * * *\"\n"), &env).expect("a configuration");
    let wanted = Schedule::new("*/15 * * * *", "Australia/Lord_Howe").expect("a schedule");
    assert_eq!(config.jobs[0].schedule, Some(wanted));
    let problems = folder.problems(SMALL, &[("SWEEPD_JOB__VIDEO_CLEAR__SCHEDULE", "@daily")]);
    let wanted = "environment variable SWEEPD_JOB__VIDEO_CLEAR__SCHEDULE: `job.schedule` of job `video-clear`: \
                  `@daily` has one field, not five";
    assert!(problems[0].starts_with(wanted), "{problems:?}");
}
