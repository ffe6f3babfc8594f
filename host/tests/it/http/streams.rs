//! Streams of tasks, and requests that are done once, over a real socket.

use super::*;

const NDJSON: &str = "content-type: application/x-ndjson\r\n";
const PATH: &[u8] = b"/v1/jobs/clear/tasks";

#[test]
fn a_stream_is_longer_than_any_body() {
    const TASKS: usize = 60_000;
    let site = idle();
    set_server(&site, "max_body = \"16KiB\"");
    let host = site.start();
    let mut stream = connect(&host);
    let head = "POST /v1/jobs/clear/tasks HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\nexpect: 100-continue\r\n";
    stream.write_all(format!("{head}{NDJSON}\r\n").as_bytes()).unwrap();
    let lines = (0..TASKS).map(|number| format!("{{\"key\":\"key-{number}\",\"payload\":\"{}\"}}\n", "p".repeat(50)));
    let text: String = lines.collect();
    // Cut anywhere, as a network does.
    for part in text.as_bytes().chunks(40_001) {
        stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).unwrap();
        stream.write_all(part).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let interim = Reply::read(stream);
    assert_eq!(interim.status, 100);
    let (head, body) = interim.body.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let summary: Value = serde_json::from_str(body).unwrap();
    assert_eq!([&summary["lines"], &summary["new"], &summary["wrong"]], [TASKS, TASKS, 0], "{summary}");
    assert_eq!(host.get("/v1/jobs/clear")["backlog"]["pending"], TASKS);
    let last = host.get(&format!("/v1/tasks?job=clear&after={}", TASKS - 1));
    assert_eq!(last["tasks"][0]["key"], format!("key-{}", TASKS - 1), "in order");
}

#[test]
fn wrong_lines_are_told_and_do_not_stop_the_others() {
    let site = idle();
    let host = site.start();
    let text = "{\"key\":\"a\"}\n\n{\"key\":\"\"}\n{\"key\":\"b\",\"payload\":5}\n{\"key\":\"a\"}\n{\"key\":\"c\"}";
    let reply = ask(&host, "POST", PATH, NDJSON, text);
    let summary: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(reply.status, 200, "{summary}");
    // The second `a` is in the same chunk: one task answers for both.
    assert_eq!([&summary["lines"], &summary["queued"], &summary["wrong"]], [5, 3, 2], "{summary}");
    assert_eq!([&summary["errors"][0]["line"], &summary["errors"][1]["line"]], [3, 4], "{summary}");
    assert_eq!(pending_keys(&host), ["a", "c"]);
    let reply = ask(&host, "POST", PATH, NDJSON, "[]\nno");
    assert_eq!(reply.word(), (400, "malformed".to_owned()));
    assert_eq!(reply.problem()["errors"][1]["line"], 2);
    assert_eq!(ask(&host, "POST", b"/v1/jobs/claer/tasks", NDJSON, text).word(), (404, "unknown-job".to_owned()));
}

/// What was read is queued though the rest never comes: whoever repeats the
/// stream after a cut queues nothing twice.
#[test]
fn a_stream_that_is_cut_has_queued_what_came() {
    let site = idle();
    let host = site.start();
    let mut stream = connect(&host);
    let head = format!("POST /v1/jobs/clear/tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n{NDJSON}\r\n");
    stream.write_all(format!("{head}{{\"key\":\"a\"}}\n{{\"key\":\"b\"}}\n{{\"key\":\"ha").as_bytes()).unwrap();
    host.wait("what came is queued", || pending_keys(&host).len() == 2);
    drop(stream);
    let reply = ask(&host, "POST", PATH, NDJSON, "{\"key\":\"a\"}\n{\"key\":\"b\"}\n{\"key\":\"half\"}\n");
    let summary: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!([&summary["new"], &summary["pending"]], [1, 2], "{summary}");
    assert_eq!(pending_keys(&host), ["a", "b", "half"]);
}

#[test]
fn a_request_that_names_itself_is_done_once_also_through_a_restart() {
    let site = Site::with_job(&guest("noop"), "");
    let host = site.start();
    let json = "content-type: application/json\r\nidempotency-key: 8e03978e-40d5\r\n";
    let body = "[{\"key\":\"a\"},{\"key\":\"b\"}]";
    let first = ask(&host, "POST", PATH, json, body);
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None), "{}", first.body);
    host.wait("both are done", || host.tasks("clear", "done").len() == 2);
    host.kill();
    let host = site.start();
    let again = ask(&host, "POST", PATH, json, body);
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(again.body, first.body, "the answers of the first time");
    let other = ask(&host, "POST", PATH, json, "[{\"key\":\"a\"},{\"key\":\"c\"}]");
    assert_eq!(other.word(), (422, "key-reused".to_owned()));
    let stream = ask(&host, "POST", PATH, &format!("{NDJSON}idempotency-key: k\r\n"), "{\"key\":\"a\"}\n");
    assert_eq!(stream.word(), (400, "malformed".to_owned()));
    let all = host.get("/v1/tasks?job=clear");
    assert_eq!(all["tasks"].as_array().map(Vec::len), Some(2), "{all}");
}
