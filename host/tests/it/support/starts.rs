//! The ways in which a test starts the host.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::{Site, Sweepd, without_ours};

#[allow(dead_code, reason = "the benchmarks start it in one way")]
impl Site {
    /// Starts the host and waits until it listens.
    pub(crate) fn start(&self) -> Sweepd {
        self.try_start().unwrap_or_else(|log| panic!("the host did not start:\n{log}"))
    }

    /// Starts the host; its log where it ends before it listens.
    pub(crate) fn try_start(&self) -> Result<Sweepd, String> {
        self.try_start_with(&[])
    }

    /// The same, with these variables.
    pub(crate) fn try_start_with(&self, variables: &[(&str, &str)]) -> Result<Sweepd, String> {
        self.try_start_logging_to(self.open_log(), variables)
    }

    /// The same, by a shell that did this before: `ulimit -n 1024`.
    pub(crate) fn try_start_after(&self, shell: &str) -> Result<Sweepd, String> {
        let host = self.run_command();
        let mut command = Command::new("sh");
        without_ours(&mut command).arg("-c").arg(format!("{shell}; exec \"$@\"")).arg("sh");
        command.arg(host.get_program()).args(host.get_args()).current_dir(self.path());
        self.launch(command, self.open_log())
    }

    /// The same, with its log in this file.
    pub(crate) fn try_start_logging_to(&self, stderr: File, variables: &[(&str, &str)]) -> Result<Sweepd, String> {
        let mut command = self.run_command();
        command.envs(variables.iter().copied());
        if let Some(uid) = self.uid {
            use std::os::unix::process::CommandExt as _;
            command.uid(uid).gid(uid);
        }
        self.launch(command, stderr)
    }

    /// Starts the host and waits only until it says in its log where it listens:
    /// it may be waiting for something yet.
    pub(crate) fn begin(&self) -> Sweepd {
        let log = self.path().join("log");
        let before = fs::read_to_string(&log).unwrap_or_default().len();
        let mut command = self.run_command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.open_log());
        let child = command.spawn().expect("the binary starts");
        let mut host = Sweepd { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        let mut address = None;
        let listens = || {
            let log = host.log();
            let (_, from) = log[before..].split_once("listening on http://")?;
            from.split_once(',').and_then(|(address, _)| address.parse().ok())
        };
        host.wait("it says where it listens", || {
            address = listens();
            address.is_some()
        });
        host.address = address.expect("an address");
        host
    }

    /// With a log of JSON, unless a test asks for another.
    fn run_command(&self) -> Command {
        let mut command = self.command(&["run"]);
        command.env("SWEEPD_LOG_FORMAT", "json");
        command
    }

    fn open_log(&self) -> File {
        File::options().create(true).append(true).open(self.path().join("log")).expect("the log opens")
    }

    fn launch(&self, mut command: Command, stderr: File) -> Result<Sweepd, String> {
        let log = self.path().join("log");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        while let Some(Ok(line)) = stdout.next() {
            if let Some((_, address)) = line.split_once("listens on http://") {
                let address = address.trim().parse().expect("an address");
                // The rest must be read, or the host would stop at a full pipe.
                std::thread::spawn(move || stdout.for_each(drop));
                return Ok(Sweepd { child, address, log });
            }
        }
        let _ = child.wait();
        Err(fs::read_to_string(log).unwrap_or_default())
    }
}
