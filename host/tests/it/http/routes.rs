//! Every route and its answers, right and wrong.

use super::*;

#[test]
fn the_replaced_route_queues_by_every_method() {
    let site = idle();
    let host = site.start();
    for (method, id) in [("GET", "a.mp4"), ("POST", "b.mp4"), ("DELETE", "%E5%BD%B1%E7%89%87%201.mp4")] {
        let path = format!("/video-delete-record/{id}");
        // A second request for a pending id is answered as the first.
        for _ in 0..2 {
            assert_eq!(ask(&host, method, path.as_bytes(), "", "").plain(), QUEUED, "{method} {path}");
        }
    }
    let long = "x".repeat(1024);
    let accepted: [&[u8]; 4] = ["影".as_bytes(), b"...", b"-rf", long.as_bytes()];
    for id in accepted {
        let target = [b"/video-delete-record/", id].concat();
        assert_eq!(ask(&host, "GET", &target, "", "").plain(), QUEUED, "{}", String::from_utf8_lossy(id));
    }
    assert_eq!(pending_keys(&host), ["a.mp4", "b.mp4", "影片 1.mp4", "影", "...", "-rf", &long]);
}

#[test]
fn the_replaced_route_refuses_what_names_no_video() {
    let site = idle();
    let host = site.start();
    let long = "x".repeat(1025);
    let unusable: [&[u8]; 15] = [
        b"",
        b"/",
        b"/.",
        b"/..",
        b"/%2e%2E",
        b"/../..",
        b"/a/b",
        b"/a%2Fb",
        b"/a%5Cb",
        b"/a%00b",
        b"/%00",
        b"/%0a",
        b"/%FF",
        b"//",
        &[b"/", long.as_bytes()].concat(),
    ];
    for id in unusable {
        for method in ["GET", "POST", "DELETE"] {
            let reply = ask(&host, method, &[b"/video-delete-record", id].concat(), "", "");
            assert_eq!(reply.plain(), UNUSABLE, "{method} {}", String::from_utf8_lossy(id));
        }
    }
    // Bytes that are no UTF-8 are no request, whichever layer says so.
    assert_eq!(ask(&host, "GET", b"/video-delete-record/\xff\xfe", "", "").status, 400);
    for method in ["HEAD", "PUT", "PATCH", "OPTIONS"] {
        let reply = ask(&host, method, b"/video-delete-record/a.mp4", "", "");
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, POST, DELETE")), "{method}");
    }
    assert_eq!(pending_keys(&host), [""; 0]);
}

#[test]
fn one_task_or_many_are_queued() {
    let site = idle();
    let host = site.start();
    let path = "/v1/jobs/clear/tasks";
    let queued = |body: &Value| {
        let reply = post(&host, path, body);
        assert_eq!(reply.header("content-type"), Some("application/json"), "{}", reply.body);
        (reply.status, serde_json::from_str::<Value>(&reply.body).unwrap())
    };
    let (status, first) = queued(&json!({ "key": "a", "payload": "for the plugin", "priority": "high" }));
    assert_eq!((status, &first["new"], &first["state"]), (201, &json!(true), &json!("pending")));
    let (status, again) = queued(&json!({ "key": "a" }));
    assert_eq!((status, &again["new"], &again["id"]), (200, &json!(false), &first["id"]));
    let (status, both) = queued(&json!([{ "key": "a" }, { "key": "b" }]));
    assert_eq!(status, 201);
    assert_eq!([&both["tasks"][0]["new"], &both["tasks"][1]["new"]], [false, true]);
    assert_eq!(queued(&json!([{ "key": "a" }, { "key": "b" }])).0, 200);
    assert_eq!(queued(&json!([])), (200, json!({ "tasks": [] })));

    let task = host.get(&format!("/v1/tasks/{}", first["id"]));
    assert_eq!([&task["key"], &task["payload"], &task["priority"]], ["a", "for the plugin", "high"], "{task}");
    let listed = host.get("/v1/tasks?job=clear&limit=1");
    assert_eq!(listed["tasks"][0]["payload"], Value::Null, "payloads are left out of a list");
}

#[test]
fn a_task_waits_for_its_time() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    let future = [json!(4_102_444_800_000_u64), json!("2100-01-01T08:00:00+08:00")];
    for (key, run_at) in future.iter().enumerate() {
        let reply = post(&host, "/v1/jobs/clear/tasks", &json!({ "key": format!("later-{key}"), "run_at": run_at }));
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    // What is due now and was queued afterwards has been executed by then.
    host.enqueue("clear", &["now"]);
    host.wait("the due one is done", || host.has("clear", "done"));
    let waiting = host.tasks("clear", "pending");
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    for task in waiting {
        assert_eq!((&task["run_at"], &task["attempts"]), (&future[0], &json!(0)), "{task}");
    }
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_queued() {
    let site = idle();
    let host = site.start();
    let path = "/v1/jobs/clear/tasks";
    let body = json!([
        { "key": "good" }, { "key": "" }, { "kye": "a" }, 7, { "key": "a", "run_at": "soon", "priority": "top" },
        { "key": "x".repeat(1025) }, { "key": "nul\0" }, { "key": "a", "payload": "x".repeat(65_537) },
    ]);
    let reply = post(&host, path, &body);
    assert_eq!(reply.word(), (422, "invalid".to_owned()));
    let problem = reply.problem();
    let errors: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| (&error["index"], &error["field"])).collect();
    let named = |index: u8, field: &str| (json!(index), if field.is_empty() { Value::Null } else { json!(field) });
    let wanted = [
        named(1, "key"),
        named(2, "key"),
        named(2, "kye"),
        named(3, ""),
        named(4, "priority"),
        named(4, "run_at"),
        named(5, "key"),
        named(6, "key"),
        named(7, "payload"),
    ];
    assert_eq!(errors, wanted.iter().map(|(index, field)| (index, field)).collect::<Vec<_>>(), "{problem}");
    let unknown = &problem["errors"][2]["detail"];
    assert!(unknown.as_str().is_some_and(|detail| detail.contains("did you mean `key`?")), "{unknown}");

    let too_many: Vec<Value> = (0..10_001).map(|number| json!({ "key": number.to_string() })).collect();
    let reply = post(&host, path, &too_many.into());
    assert_eq!(reply.word(), (422, "invalid".to_owned()));
    assert!(reply.problem()["detail"].as_str().unwrap().contains("10001 tasks were sent"), "{}", reply.body);

    let json = "content-type: application/json\r\n";
    for body in ["{", "[{\"key\":\"a\"}", "{\"key\":\"a\",\"key\":\"b\"}", "\u{feff}{}"] {
        assert_eq!(ask(&host, "POST", path.as_bytes(), json, body).word(), (400, "malformed".to_owned()), "{body}");
    }
    assert_eq!(ask(&host, "POST", path.as_bytes(), json, "").word(), (400, "malformed".to_owned()));
    assert_eq!(host.get("/v1/tasks")["tasks"], json!([]), "nothing was queued by any of these");
}

#[test]
fn what_is_not_there_is_said_with_the_nearest() {
    let site = idle();
    let host = site.start();
    let reply = post(&host, "/v1/jobs/claer/tasks", &json!({ "key": "a" }));
    assert_eq!(reply.word(), (404, "unknown-job".to_owned()));
    assert!(reply.problem()["detail"].as_str().unwrap().contains("did you mean `clear`?"), "{}", reply.body);
    for (path, status, word) in [
        ("/v1/jobs/claer", 404, "unknown-job"),
        ("/v1/tasks?job=claer", 404, "unknown-job"),
        ("/v1/tasks/7", 404, "unknown-task"),
        ("/v1/tasks/seven", 400, "malformed"),
        ("/v1/tasks?state=gone", 400, "malformed"),
        ("/v1/tasks?limit=0", 400, "malformed"),
        ("/v1/tasks?limit=1001", 400, "malformed"),
        ("/v1/tasks?jbo=clear", 400, "malformed"),
        ("/v2", 404, "no-such-route"),
        ("/", 404, "no-such-route"),
    ] {
        assert_eq!(get(&host, path).word(), (status, word.to_owned()), "{path}");
    }
    for (method, path, allow) in [
        ("DELETE", "/v1/jobs", "GET,HEAD"),
        ("PUT", "/v1/jobs/clear", "GET,HEAD"),
        ("GET", "/v1/jobs/clear/tasks", "POST"),
        ("GET", "/v1/jobs/clear/sweep", "POST"),
        ("POST", "/healthz", "GET,HEAD"),
    ] {
        let reply = ask(&host, method, path.as_bytes(), "", "");
        assert_eq!(reply.word(), (405, "method-not-allowed".to_owned()), "{method} {path}");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
}

#[test]
fn jobs_and_tasks_are_shown_page_by_page() {
    let site = Site::new();
    site.install(&guest("noop"));
    site.configure(
        "[[job]]\nname = \"clear\"\nplugin = \"plugins/plugin.wasm\"\nmounts = [\"videos\"]\ninterval = \"200ms\"\n\
         [[job]]\nname = \"later\"\nplugin = \"plugins/none.wasm\"\nmounts = [\"videos\"]\n",
    );
    let host = site.start();
    host.serving("clear");
    let jobs = host.get("/v1/jobs");
    assert_eq!(jobs["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!([&jobs["jobs"][0]["name"], &jobs["jobs"][1]["name"]], ["clear", "later"], "{jobs}");
    let clear = host.get("/v1/jobs/clear");
    assert_eq!(clear["backlog"]["pending"], 0, "{clear}");
    assert_eq!(clear["slot"]["generation"]["number"], 1, "{clear}");

    let keys: Vec<_> = (0..25).map(|number| format!("video-{number:02}")).collect();
    let ids = host.enqueue("later", &keys);
    host.enqueue("clear", &keys[..5]);
    host.drained("clear");
    assert_eq!(host.get("/v1/jobs/later")["backlog"]["pending"], 25);
    let mut seen = Vec::new();
    let mut sizes = Vec::new();
    let mut after = json!(0);
    while !after.is_null() {
        let page = host.get(&format!("/v1/tasks?job=later&state=pending&limit=10&after={after}"));
        let tasks = page["tasks"].as_array().unwrap();
        assert!(tasks.iter().all(|task| task["job"] == "later" && task["state"] == "pending"), "{page}");
        seen.extend(tasks.iter().map(|task| task["id"].as_u64().unwrap()));
        sizes.push(tasks.len());
        after = page["next"].clone();
    }
    assert_eq!((seen, sizes), (ids, vec![10, 10, 5]));
    assert_eq!(host.tasks("clear", "done").len(), 5);
    assert_eq!(host.get("/v1/tasks?job=later&state=done")["tasks"], json!([]));
    assert_eq!(host.get("/v1/tasks")["tasks"].as_array().map(Vec::len), Some(30), "all jobs, all states");
}

#[test]
fn health_is_told() {
    let site = idle();
    let host = site.start();
    assert_eq!(get(&host, "/healthz").plain(), (200, "ok"));
    assert_eq!(get(&host, "/readyz").plain(), (200, "ready"), "requests are served, whatever its jobs can do");
    for asked in ["/readyz?job=clear", "/readyz?jobs=all"] {
        let reply = get(&host, asked);
        assert_eq!((reply.word(), reply.header("retry-after")), ((503, "jobs-not-ready".to_owned()), Some("1")));
        let jobs = &reply.problem()["jobs"];
        assert_eq!(
            (&jobs[0]["job"], &jobs[0]["reason"], &jobs[1]),
            (&json!("clear"), &json!("no-plugin"), &json!(null))
        );
    }
    assert_eq!(get(&host, "/readyz?job=clea").word(), (404, "unknown-job".to_owned()));
    for bad in ["/readyz?job=clear&jobs=all", "/readyz?jobs=clear", "/readyz?jbo=clear"] {
        assert_eq!(get(&host, bad).word(), (400, "malformed".to_owned()), "{bad}");
    }
    site.install(&plugin("video-clear"));
    host.serving("clear");
    for asked in ["/readyz", "/readyz?job=clear", "/readyz?jobs=all"] {
        assert_eq!(get(&host, asked).plain(), (200, "ready"), "{asked}");
    }
}
