//! Database servers of the test's own: their data in a folder of their own,
//! their port their own, so that they can be stopped and killed at will.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// Longer than a server takes to start or to stop on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A server that does not answer for so long after its start is started again:
/// MariaDB 10.11 now and then waits for its own replication thread for ever.
const STUCK: Duration = Duration::from_secs(20);

/// How long one question may take.
const ANSWERS: Duration = Duration::from_secs(1);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mariadb,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// In good order, without waiting for clients.
    Orderly,
    /// kill -9.
    Kill,
}

/// A server; it is stopped, and its data removed, when dropped.
pub(crate) struct Server {
    kind: Kind,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
    started: Instant,
}

impl Server {
    /// Makes its data and starts it.
    pub(crate) fn start(kind: Kind) -> Self {
        let folder = tempfile::Builder::new().prefix("torture-").tempdir().expect("a folder");
        let mut server = Self { kind, folder, port: free_port(), child: None, started: Instant::now() };
        server.initialise();
        server.resume();
        server.wait_ready();
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL for sweepd, if the server is reached at this address.
    pub(crate) fn url(&self, at: SocketAddr) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@{at}/postgres"),
            Kind::Mariadb => format!("mysql://root@{at}/sweepd"),
        }
    }

    /// Its own folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes this folder the server's own.
    pub(crate) fn give(&self, folder: &Path) {
        if let Some((uid, gid)) = self.user() {
            std::os::unix::fs::chown(folder, Some(uid), Some(gid)).expect("the folder is given away");
        }
    }

    /// Stops it, and waits until it is gone.
    pub(crate) fn stop(&mut self, how: Stop) {
        let Some(mut child) = self.child.take() else { return };
        let signal = match (how, self.kind) {
            (Stop::Kill, _) => Signal::KILL,
            // PostgreSQL takes SIGTERM for a wish to wait until all clients are gone.
            (Stop::Orderly, Kind::Postgres) => Signal::INT,
            (Stop::Orderly, Kind::Mariadb) => Signal::TERM,
        };
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("the signal is sent");
        child.wait().expect("it ends");
    }

    /// Starts it after a stop, without waiting until it is ready; does nothing
    /// while it runs. One that ended by itself is started again: a killed
    /// PostgreSQL's children may still be about, and it refuses to start beside
    /// them.
    pub(crate) fn resume(&mut self) {
        if self.child.as_mut().is_some_and(|child| child.try_wait().expect("it can be waited for").is_none()) {
            return;
        }
        let data = self.data();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command(&postgres("postgres"));
                // Durable as usual; more connections than the nodes' pools have.
                command.arg("-D").arg(&data).arg("-k").arg(self.folder.path());
                command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
                command.arg("-c").arg(format!("port={}", self.port));
                command
            }
            Kind::Mariadb => {
                let mut command = self.command(&mariadb("mariadbd"));
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}", self.folder.path().join("socket").display()));
                command.arg(format!("--init-file={}", self.folder.path().join("init.sql").display()));
                command.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=200"]);
                command.arg(format!("--port={}", self.port));
                command
            }
        };
        let log = File::options().create(true).append(true).open(self.log()).expect("the log opens");
        command.stdout(log.try_clone().expect("the log opens")).stderr(log);
        self.started = Instant::now();
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", missing(self.kind))));
    }

    /// Waits until it answers, started again where need be.
    pub(crate) fn wait_ready(&mut self) {
        let began = Instant::now();
        while !self.is_ready() {
            assert!(began.elapsed() < PATIENCE, "the server does not start:\n{}", self.said());
            if self.started.elapsed() >= STUCK {
                self.stop(Stop::Kill);
            }
            self.resume();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_ready(&self) -> bool {
        match self.kind {
            Kind::Postgres => {
                let mut probe = Command::new(postgres("pg_isready"));
                let probe = probe.args(["-q", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
                probe.status().is_ok_and(|status| status.success())
            }
            // It greets whom it would serve.
            Kind::Mariadb => TcpStream::connect_timeout(&self.address(), ANSWERS).is_ok_and(|mut stream| {
                stream.set_read_timeout(Some(ANSWERS)).expect("an option of a socket");
                stream.read_exact(&mut [0; 5]).is_ok()
            }),
        }
    }

    /// Lets new sessions, and where the server can the present ones, only read, or
    /// write again. Answers whether the server did it: it may be down.
    pub(crate) fn set_read_only(&self, on: bool) -> bool {
        let switch = if on { "on" } else { "off" };
        match self.kind {
            Kind::Postgres => {
                // Each by itself: the second may be in no transaction.
                let (set, keep) = (
                    "SET default_transaction_read_only = off".to_owned(),
                    format!("ALTER SYSTEM SET default_transaction_read_only = {switch}"),
                );
                let mut psql = Command::new(postgres("psql"));
                psql.args(["-qX", "-U", "postgres", "-h", "127.0.0.1", "-d", "postgres", "-p"]);
                psql.arg(self.port.to_string());
                for sql in [&set, &keep, &"SELECT pg_reload_conf()".to_owned()] {
                    psql.args(["-c", sql]);
                }
                tells(&mut psql)
            }
            Kind::Mariadb => {
                let mut client = Command::new(mariadb("mariadb"));
                client.args(["-u", "root", "-h", "127.0.0.1", "--connect-timeout=1", "-P"]);
                client.arg(self.port.to_string());
                tells(client.arg("-e").arg(format!("SET GLOBAL tx_read_only = {switch}")))
            }
        }
    }

    /// Makes an empty data folder.
    fn initialise(&self) {
        let data = self.data();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command(&postgres("initdb"));
                command
                    .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "-D"])
                    .arg(&data);
                command
            }
            Kind::Mariadb => {
                let init = self.folder.path().join("init.sql");
                fs::write(init, "CREATE DATABASE IF NOT EXISTS sweepd;\n").expect("a file writes");
                let mut command = self.command(&mariadb("mariadb-install-db"));
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
                command
            }
        };
        if let Some((uid, gid)) = self.user() {
            std::os::unix::fs::chown(self.folder.path(), Some(uid), Some(gid)).expect("the folder is given away");
        }
        let made = command.output().unwrap_or_else(|error| panic!("{}: {error}", missing(self.kind)));
        let said = || String::from_utf8_lossy(&[&made.stdout[..], &made.stderr[..]].concat()).into_owned();
        assert!(made.status.success(), "the data folder of {:?} was not made:\n{}", self.kind, said());
    }

    /// The program, as the user that it wants to be.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Servers refuse to run as root: then its own user and group.
    fn user(&self) -> Option<(u32, u32)> {
        geteuid().is_root().then(|| {
            let name = match self.kind {
                Kind::Postgres => "postgres",
                Kind::Mariadb => "mysql",
            };
            let number = |option| {
                let output = Command::new("id").args([option, name]).output().expect("`id` starts");
                let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                text.parse().unwrap_or_else(|_| panic!("there is no user {name}: {}", missing(self.kind)))
            };
            (number("-u"), number("-g"))
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it has logged.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(match self.kind {
            // Killed, it would leave children behind.
            Kind::Postgres => Stop::Orderly,
            Kind::Mariadb => Stop::Kill,
        });
    }
}

fn tells(client: &mut Command) -> bool {
    let told = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    told.is_ok_and(|status| status.success())
}

/// What to install.
fn missing(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "PostgreSQL's server is needed (Debian's package `postgresql`)",
        Kind::Mariadb => "MariaDB's server is needed (Debian's package `mariadb-server`)",
    }
}

/// A program of PostgreSQL's server, of the newest version that is there.
/// Debian keeps them out of the search path.
fn postgres(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(program)).filter(|path| path.exists());
    found.max().unwrap_or_else(|| program.into())
}

/// A program of MariaDB's server, wherever it is: a user's search path may lack
/// the folders of the system's programs.
fn mariadb(program: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists()).unwrap_or(program.into())
}

/// A port that nobody uses, below those that connections take by themselves: it
/// is to be free again when the server comes back.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("there is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops_and_comes_back(kind: Kind) {
        let mut server = Server::start(kind);
        for how in [Stop::Orderly, Stop::Kill, Stop::Kill] {
            server.stop(how);
            assert!(!server.is_ready(), "{how:?}");
            server.resume();
            server.wait_ready();
        }
    }

    #[test]
    fn postgres_stops_and_comes_back() {
        stops_and_comes_back(Kind::Postgres);
    }

    #[test]
    fn mariadb_stops_and_comes_back() {
        stops_and_comes_back(Kind::Mariadb);
    }
}
