//! The server over real connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

/// A server with connections, and the way to stop it.
fn listening(options: ServerOptions) -> (std::net::SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        serve(listener, Fake::default(), options, shutdown).await.expect("serves");
    });
    (address, stop, running)
}

fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_served_and_bounded() {
    let (address, stop, running) = listening(ServerOptions { max_connections: 2, ..options() });
    let answers = tokio::task::spawn_blocking(move || {
        let raw = "GET /video-delete-record/影 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let utf8 = exchange(address, raw.as_bytes());
        let up = exchange(address, b"GET /video-delete-record/.. HTTP/1.1\r\nconnection: close\r\n\r\n");
        let slow_head = exchange(address, b"GET / HTTP/1.1\r\nhost:");
        let slow_body = exchange(
            address,
            b"POST /v1/jobs/videos/tasks HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        );
        let (_first, _second) = (TcpStream::connect(address), TcpStream::connect(address));
        let third = exchange(address, raw.as_bytes());
        [utf8, up, slow_head, slow_body, third]
    });
    let [utf8, up, slow_head, slow_body, third] = answers.await.expect("asked");
    assert!(utf8.starts_with("HTTP/1.1 200"), "{utf8}");
    assert!(up.starts_with("HTTP/1.1 400"), "{up}");
    assert!(slow_head.is_empty() || slow_head.starts_with("HTTP/1.1 408"), "{slow_head}");
    assert!(slow_body.starts_with("HTTP/1.1 408"), "{slow_body}");
    assert!(third.starts_with("HTTP/1.1 200"), "idle connections were closed for it: {third}");
    stop.send(()).expect("running");
    running.await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_requests_finish_and_closes_idle_connections() {
    let options = ServerOptions { header_timeout: Duration::from_mins(1), ..options() };
    let (address, stop, running) = listening(options);
    let mut idle = TcpStream::connect(address).expect("a connection");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
    assert!(idle.read(&mut [0; 1024]).expect("an answer") > 0);
    // Its body is to come, so that it runs while the server stops.
    let mut busy = TcpStream::connect(address).expect("a connection");
    busy.write_all(b"POST /v1/jobs/videos/tasks HTTP/1.1\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n").expect("sent");
    let mut buffer = [0; 1024];
    let length = busy.read(&mut buffer).expect("an interim answer");
    assert!(buffer[..length].starts_with(b"HTTP/1.1 100"));
    stop.send(()).expect("running");
    assert_eq!(idle.read(&mut [0; 16]).expect("closed in order"), 0);
    assert!(TcpStream::connect(address).is_err());
    busy.write_all(br#"{"key":"a"}"#).expect("sent");
    let length = busy.read(&mut buffer).expect("an answer");
    assert!(buffer[..length].starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&buffer[..length]));
    running.await.expect("stopped");
    assert!(bind(address).is_ok());
    let held = bind(address).expect("free again");
    assert_eq!(bind(address).expect_err("taken").kind(), std::io::ErrorKind::AddrInUse);
    drop(held);
}
