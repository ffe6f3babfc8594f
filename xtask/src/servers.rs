//! The database servers that tests need: said loudly where one is missing, or
//! refused where nothing may be left out.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Result, bail};

/// With this set to 1 (or `CI` to true) a missing server is a failure.
const REQUIRED: &str = "SWEEPD_TEST_REQUIRE_SERVERS";

/// A server, and the variable that says where it is.
struct Server {
    name: &'static str,
    variable: &'static str,
    usual: &'static str,
    port: u16,
}

const SERVERS: [Server; 2] = [
    Server { name: "PostgreSQL", variable: "SWEEPD_TEST_POSTGRES", usual: "127.0.0.1", port: 5432 },
    Server { name: "MariaDB", variable: "SWEEPD_TEST_MYSQL", usual: "127.0.0.1", port: 3306 },
];

/// What cannot be tested here; fails instead where that is not allowed.
pub(crate) fn missing() -> Result<Vec<String>> {
    let missing: Vec<_> = SERVERS.iter().filter_map(Server::missing).collect();
    let set = |variable, value| std::env::var(variable).is_ok_and(|found| found == value);
    if !missing.is_empty() && (set(REQUIRED, "1") || set("CI", "true")) {
        bail!("{}: start it, or say where it is; the tests need it here", missing.join("; "));
    }
    Ok(missing)
}

/// Says at the end what was not run: nobody reads the beginning.
pub(crate) fn say(missing: &[String]) {
    for server in missing {
        eprintln!("xtask: NOT TESTED: {server}; the tests that need it passed without having run");
    }
}

impl Server {
    fn missing(&self) -> Option<String> {
        let address = self.address();
        let reached = address
            .to_socket_addrs()
            .is_ok_and(|mut found| found.any(|at| TcpStream::connect_timeout(&at, Duration::from_secs(3)).is_ok()));
        (!reached).then(|| format!("{} does not answer at {address} (set {} to its URL)", self.name, self.variable))
    }

    /// `host:port` of the URL in the variable, without a word of the rest.
    fn address(&self) -> String {
        let url = std::env::var(self.variable).unwrap_or_else(|_| self.usual.to_owned());
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.contains(':') { host.to_owned() } else { format!("{host}:{}", self.port) }
    }
}
