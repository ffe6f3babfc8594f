//! What a client cannot do to the host: too much, too slowly, from elsewhere, at its end.

use super::*;

#[test]
fn bodies_are_bounded_and_of_one_kind() {
    let site = idle();
    set_server(&site, "max_body = \"64KiB\"");
    let host = site.start();
    let head = "POST /v1/jobs/clear/tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
    // Announced, it is refused unread; in chunks, as soon as it is too long.
    let announced = exchange(&host, format!("{head}content-length: 65537\r\n\r\n").as_bytes());
    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n10001\r\n{}", "x".repeat(65_537));
    for reply in [announced, exchange(&host, chunk.as_bytes())] {
        assert_eq!(reply.word(), (413, "too-large".to_owned()));
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(
            reply.problem()["detail"].as_str().unwrap().contains("server.max_body (65536 bytes)"),
            "{}",
            reply.body
        );
    }
    let task = json!({ "key": "a" }).to_string();
    for headers in ["", "content-type: text/plain\r\n", "content-type: application/x-www-form-urlencoded\r\n"] {
        let reply = ask(&host, "POST", b"/v1/jobs/clear/tasks", headers, &task);
        assert_eq!(reply.word(), (415, "unsupported-media-type".to_owned()), "{headers}");
    }
    assert_eq!(pending_keys(&host), [""; 0]);
    let charset = "content-type: Application/JSON; charset=utf-8\r\n";
    assert_eq!(ask(&host, "POST", b"/v1/jobs/clear/tasks", charset, &task).status, 201);
}

#[test]
fn heads_are_bounded_in_time() {
    let site = idle();
    set_server(&site, "header_timeout = \"200ms\"");
    let host = site.start();
    let mut slow = connect(&host);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n").unwrap();
    let mut said = Vec::new();
    slow.read_to_end(&mut said).unwrap();
    assert!(said.is_empty(), "a head that does not end is not answered: {}", String::from_utf8_lossy(&said));
}

#[test]
fn heads_are_bounded_in_size() {
    let site = idle();
    let host = site.start();
    // Exactly as much as the host reads, so that it closes an empty socket.
    let long = format!("GET /{}", "x".repeat(64 * 1024 - 5));
    let reply = exchange(&host, long.as_bytes());
    assert!(matches!(reply.status, 414 | 431), "{}", reply.head);
}

/// Begins a request and answers when a handler waits for its body.
fn under_way(host: &Sweepd, body: &str) -> TcpStream {
    let mut stream = connect(host);
    let head = format!(
        "POST /v1/jobs/clear/tasks HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::with_capacity(1, stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100 "), "{line}");
    reader.read_line(&mut line).unwrap();
    stream
}

#[test]
fn more_requests_than_are_allowed_are_told_to_come_back() {
    let site = idle();
    set_server(&site, "max_requests = 1");
    let host = site.start();
    let body = json!({ "key": "a" }).to_string();
    let mut first = under_way(&host, &body);
    let reply = get(&host, "/healthz");
    assert_eq!((reply.word(), reply.header("retry-after")), ((503, "busy".to_owned()), Some("1")));
    first.write_all(body.as_bytes()).unwrap();
    assert_eq!(Reply::read(first).status, 201);
    assert_eq!(get(&host, "/healthz").plain(), (200, "ok"));
}

#[test]
fn a_request_under_way_at_the_end_is_answered() {
    let site = idle();
    let host = site.start();
    let body = json!({ "key": "last" }).to_string();
    let mut stream = under_way(&host, &body);
    host.signal(Signal::TERM);
    host.wait("it accepts no more", || TcpStream::connect(host.address).is_err());
    stream.write_all(body.as_bytes()).unwrap();
    let reply = Reply::read(stream);
    // It came too late or just in time; what it was told is true.
    let queued = reply.status == 201;
    assert!(queued || reply.word() == (503, "stopping".to_owned()), "{} {}", reply.status, reply.body);
    assert_eq!(host.ended(), Some(0));
    let host = site.start();
    assert_eq!(host.has("clear", "pending"), queued);
}

#[test]
fn pages_of_other_origins_change_nothing() {
    let site = idle();
    let host = site.start();
    let legacy: &[u8] = b"/video-delete-record/a.mp4";
    for headers in ["origin: http://evil.example\r\n", "origin: null\r\n", "sec-fetch-site: cross-site\r\n"] {
        let refused = (403, "cross-origin".to_owned());
        assert_eq!(ask(&host, "GET", legacy, headers, "").word(), refused, "{headers}");
        let json = format!("content-type: application/json\r\n{headers}");
        let body = json!({ "key": "a" }).to_string();
        assert_eq!(ask(&host, "POST", b"/v1/jobs/clear/tasks", &json, &body).word(), refused, "{headers}");
        assert_eq!(ask(&host, "GET", b"/v1/jobs", headers, "").status, 200, "looking is allowed: {headers}");
    }
    let rebound = exchange(&host, b"GET /v1/jobs HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert_eq!(rebound.word(), (403, "unknown-host".to_owned()));
    assert_eq!(pending_keys(&host), [""; 0]);
    assert_eq!(ask(&host, "GET", legacy, "origin: http://127.0.0.1\r\n", "").plain(), QUEUED);
}
