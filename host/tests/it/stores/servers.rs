//! The servers of the tests: where they are, and what happens where one is not.

use std::time::Duration;

use tokio::net::TcpStream;

/// Whether the server that listens at `address` (`host:port`) can be reached.
///
/// Where it cannot, the tests that need it must not pass in silence: with
/// `CI=true` or `SWEEPD_TEST_REQUIRE_SERVERS=1` this panics, elsewhere it says
/// so on the standard error, past the capture of the test's output.
pub(crate) async fn reachable(what: &str, address: &str) -> bool {
    let connected = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(address)).await;
    if matches!(connected, Ok(Ok(_))) {
        return true;
    }
    let required = std::env::var("CI").is_ok_and(|value| value == "true")
        || std::env::var("SWEEPD_TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    assert!(!required, "{what} cannot be reached at {address}, and these tests need it");
    // `eprintln!` would be captured.
    let told = format!("NOT RUN: {what} cannot be reached at {address}; a test passes without having run\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
    false
}

/// `host:port` of a database's URL.
pub(crate) fn address(url: &str, port: u16) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") }
}
