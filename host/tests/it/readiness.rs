//! A host is ready where it serves requests; which job cannot work, and why, is
//! told beside. What status says of a job is of now.

use std::fs;

use serde_json::Value;

use crate::cli::beside;
use crate::support::{Site, Sweepd, guest, plugin};

/// The jobs `clear` and `other`, each with a plugin file and a mount of its own.
fn two_jobs() -> Site {
    let site = Site::new();
    site.install(&plugin("video-clear"));
    fs::create_dir(site.path().join("others")).unwrap();
    let job = |name: &str, file: &str, mount: &str| {
        format!(
            "[[job]]\nname = \"{name}\"\nplugin = \"plugins/{file}.wasm\"\nmounts = [\"{mount}\"]\n\
             interval = \"200ms\"\n"
        )
    };
    site.configure(&(job("clear", "plugin", "videos") + &job("other", "other", "others")));
    site
}

fn ask(host: &Sweepd, path: &str) -> (u16, Value) {
    let (status, body) = host.request("GET", path, None);
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[test]
fn a_job_without_a_plugin_leaves_the_host_ready_and_is_told_by_name() {
    let site = two_jobs();
    let host = site.start();
    host.serving("clear");
    let reason = || host.get("/v1/jobs/other")["cannot_work"]["reason"].clone();
    host.wait("the missing plugin is told", || reason() == "no-plugin");
    assert_eq!(ask(&host, "/readyz").0, 200);
    assert_eq!(ask(&host, "/readyz?job=clear").0, 200);
    for asked in ["/readyz?job=other", "/readyz?jobs=all"] {
        let (status, document) = ask(&host, asked);
        assert_eq!(status, 503, "{document}");
        let jobs = document["jobs"].as_array().unwrap();
        assert_eq!((jobs.len(), &jobs[0]["job"], &jobs[0]["reason"]), (1, &"other".into(), &"no-plugin".into()));
        assert!(jobs[0]["detail"].as_str().unwrap().contains("other.wasm"), "{document}");
    }
    let check = |more: &[&str]| beside(&site, &host, &[&["status", "--check"], more].concat());
    check(&[]).exits(2).says("wrong: other: no-plugin: ");
    check(&["--job", "other"]).exits(2).says("wrong: other: no-plugin: ");
    let said = check(&["--job", "clear"]).exits(0);
    assert!(said.err.is_empty() && !said.out.contains("other"), "{}{}", said.out, said.err);
    check(&["--job", "othr"]).exits(1).says("did you mean `other`?");

    assert_eq!(host.request("POST", "/v1/jobs/clear/pause", None).0, 200);
    let jobs = ask(&host, "/readyz?jobs=all").1["jobs"].clone();
    assert_eq!((&jobs[0]["reason"], &jobs[1]["reason"]), (&"paused".into(), &"no-plugin".into()));
    assert_eq!(host.request("POST", "/v1/jobs/clear/resume", None).0, 200);
    fs::copy(plugin("video-clear"), site.path().join("plugins/other.wasm")).unwrap();
    host.wait("all jobs can work", || ask(&host, "/readyz?jobs=all").0 == 200);
    check(&[]).exits(0);
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_plugin_that_is_being_compiled_is_told_with_since_when() {
    // Python with its interpreter: seconds.
    let site = Site::with_job(&guest("lists_kinds_py"), "");
    let host = site.start();
    let mut seen = Value::Null;
    host.wait("it is being compiled", || {
        seen = host.get("/v1/jobs/clear");
        seen["slot"]["compiling"]["since"].is_u64()
    });
    assert_eq!(seen["cannot_work"]["reason"], "compiling");
    assert_eq!(ask(&host, "/readyz?job=clear").1["jobs"][0]["reason"], "compiling");
    let said = beside(&site, &host, &["status"]).exits(0);
    assert!(said.out.contains("clear: compiling "), "{}", said.out);
    host.says("compiling the plugin; nothing serves yet");
    assert!(host.serving("clear")["slot"]["compiling"].is_null());
    host.says("compiled the plugin");
}

#[test]
fn an_error_names_its_generation_and_is_past_once_another_one_serves() {
    let site = Site::with_job(&guest("fails_permanent"), "");
    let host = site.start();
    host.enqueue("clear", &["a"]);
    let last = || host.get("/v1/jobs/clear")["last_error"].clone();
    host.wait("it fails", || last().is_object());
    assert_eq!(last()["generation"], 1, "{}", last());
    let said = beside(&site, &host, &["status"]).exits(0);
    assert!(said.out.contains("clear: last error of generation 1 ("), "{}", said.out);
    site.install(&guest("noop"));
    host.wait("the error is past", || last().is_null());
}

#[test]
fn what_a_sweep_took_away_is_told_after_sweeps_that_did_nothing() {
    let site = Site::with_job(&plugin("video-clear"), "");
    for name in ["a", "b"] {
        fs::write(site.videos().join(name), "x").unwrap();
    }
    let host = site.start();
    host.enqueue("clear", &["a", "b", "gone"]);
    host.drained("clear");
    let (status, body) = host.request("POST", "/v1/jobs/clear/sweep?wait=true", None);
    assert_eq!(status, 200, "{body}");
    let status = host.get("/v1/jobs/clear");
    let last = &status["last_sweep"];
    assert_eq!((&status["taken"]["sweep"]["files"], &status["taken"]["hour"]["files"]), (&2.into(), &2.into()));
    assert_eq!((&last["claimed"], &last["done"], &last["skipped"]), (&3.into(), &2.into(), &1.into()), "{last}");
}
