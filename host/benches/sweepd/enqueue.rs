//! HTTP: one task a request, each durable before its answer, 64 connections
//! that each wait for their answer; the client runs on the same cores.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::report::{Report, median};
use super::support::{Site, plugin};
use super::world;

const CONNECTIONS: usize = 64;
fn requests() -> usize {
    world::sized(100_000, 500)
}
fn rounds() -> usize {
    world::sized(3, 1)
}

pub(crate) fn measure(report: &mut Report) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (mut queueing, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds() {
        // A job that does not run: the rate of the queue alone.
        let site = Site::with_job(&plugin("video-clear"), "");
        let host = site.start();
        let (status, body) = host.request("POST", "/v1/jobs/clear/pause", None);
        assert!(status < 300, "{body}");
        queueing.push(runtime.block_on(rate(host.address, move |n| format!("/video-delete-record/r{round}-{n:06}"))));
        bare.push(runtime.block_on(rate(host.address, |_| "/healthz".to_owned())));
    }
    let detail = format!("/healthz on the same server and client: {:.0}/s", median(bare));
    report.at_least("HTTP enqueue, 64 connections, durable", median(queueing), 30_000.0, "/s", detail);
}

/// Requests a second over all connections.
async fn rate(address: SocketAddr, path: impl Fn(usize) -> String + Send + Sync + 'static) -> f64 {
    let next = std::sync::Arc::new((AtomicUsize::new(0), path));
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let next = std::sync::Arc::clone(&next);
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("it connects");
            stream.set_nodelay(true).expect("no delay");
            let mut answer = [0; 1024];
            loop {
                let number = next.0.fetch_add(1, Ordering::Relaxed);
                if number >= requests() {
                    return;
                }
                let request = format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (next.1)(number));
                stream.write_all(request.as_bytes()).await.expect("it is sent");
                let mut length = 0;
                // Answers are small and whole: head and body come together.
                while !is_whole(&answer[..length]) {
                    let read = stream.read(&mut answer[length..]).await.expect("it is answered");
                    assert!(read > 0, "the connection was closed");
                    length += read;
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client fails");
    }
    requests() as f64 / began.elapsed().as_secs_f64()
}

/// Whether head and body are there, by the content length.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok())
        .expect("a content length");
    answer.len() >= head + 4 + length
}
