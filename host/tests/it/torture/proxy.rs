//! A TCP proxy between nodes and their database that cuts connections: all of
//! them at once, or one in the middle of a commit, which then is unknown.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How long a database gets to carry out what it was sent before it is to see
/// that nobody waits for the answer.
const CARRIED_OUT: Duration = Duration::from_millis(20);

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The next `COMMIT` is forwarded, its answer is not.
    AfterCommit,
    /// The next `COMMIT` is not forwarded.
    BeforeCommit,
    /// The next request, whatever it is, is forwarded, its answer is not: some
    /// statements are a transaction of their own.
    AfterAny,
}

/// A listening proxy; it ends with what it holds when dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// Where, and how often yet.
    next_cuts: Mutex<Option<(Cut, u32)>>,
    pairs: Mutex<Vec<Pair>>,
    cuts: AtomicU64,
    closed: AtomicBool,
}

/// Both ends of one connection.
#[derive(Clone)]
struct Pair {
    client: Arc<TcpStream>,
    server: Arc<TcpStream>,
    /// No further answer passes.
    muted: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens, and connects to `to` for every connection.
    pub(super) fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            to,
            next_cuts: Mutex::default(),
            pairs: Mutex::default(),
            cuts: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.closed.load(Ordering::SeqCst) {
                    return;
                }
                // Where the server is down, the client sees its connection end.
                if let (Ok(client), Ok(server)) = (client, TcpStream::connect(accepting.to)) {
                    Shared::join(&accepting, client, server);
                }
            }
        });
        Self { address, shared }
    }

    /// Cuts all connections now.
    pub(super) fn cut_all(&self) {
        for pair in std::mem::take(&mut *self.shared.pairs()) {
            self.shared.cuts.fetch_add(1, Ordering::SeqCst);
            pair.end();
        }
    }

    /// Cuts so many connections, each at the next chance.
    pub(super) fn cut_next(&self, cut: Cut, times: u32) {
        *self.shared.next_cuts() = Some((cut, times));
    }

    /// Cuts none that was not cut yet.
    pub(super) fn relent(&self) {
        *self.shared.next_cuts() = None;
    }

    /// How many connections were cut so far.
    pub(super) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.cut_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn join(shared: &Arc<Self>, client: TcpStream, server: TcpStream) {
        // What is small must not wait for more.
        client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).expect("an option of a socket");
        let pair = Pair { client: client.into(), server: server.into(), muted: Arc::default() };
        shared.pairs().push(pair.clone());
        let (to_client, to_server, shared) = (pair.clone(), pair, Arc::clone(shared));
        thread::spawn(move || {
            pump(&to_client.server, &to_client.client, |_| !to_client.muted.load(Ordering::SeqCst));
            to_client.end();
        });
        thread::spawn(move || {
            pump(&to_server.client, &to_server.server, |bytes| shared.passes(&to_server, bytes));
            to_server.end();
            shared.pairs().retain(|pair| !Arc::ptr_eq(&pair.client, &to_server.client));
        });
    }

    /// Whether a request passes as usual; if not, its connection is cut.
    fn passes(&self, pair: &Pair, request: &[u8]) -> bool {
        let is_commit = request.to_ascii_uppercase().windows(6).any(|word| word == b"COMMIT");
        let Some(cut) = self.chance(is_commit) else { return true };
        self.cuts.fetch_add(1, Ordering::SeqCst);
        if cut != Cut::BeforeCommit {
            // Muted first: its answer may come at once.
            pair.muted.store(true, Ordering::SeqCst);
            if (&*pair.server).write_all(request).is_ok() {
                thread::sleep(CARRIED_OUT);
            }
        }
        pair.end();
        false
    }

    /// How the connection of this request is to be cut.
    fn chance(&self, is_commit: bool) -> Option<Cut> {
        let mut next = self.next_cuts();
        let (cut, times) = next.as_mut().filter(|(cut, _)| is_commit || *cut == Cut::AfterAny)?;
        let cut = *cut;
        *times -= 1;
        if *times == 0 {
            *next = None;
        }
        Some(cut)
    }

    fn next_cuts(&self) -> MutexGuard<'_, Option<(Cut, u32)>> {
        self.next_cuts.lock().expect("nobody panics with it")
    }

    fn pairs(&self) -> MutexGuard<'_, Vec<Pair>> {
        self.pairs.lock().expect("nobody panics with it")
    }
}

impl Pair {
    fn end(&self) {
        // Either may be closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// Passes on what may pass, until an end is reached.
fn pump(mut from: &TcpStream, mut to: &TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !passes(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A server that answers each line with itself and notes it.
#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::sync::mpsc;

    use super::*;

    fn echo() -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, lines) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let heard = heard.clone();
                thread::spawn(move || {
                    for line in BufReader::new(&client).lines().map_while(Result::ok) {
                        heard.send(line.clone()).unwrap();
                        // Nobody may wait for it.
                        let _ = (&client).write_all(format!("{line}\n").as_bytes());
                    }
                });
            }
        });
        (address, lines)
    }

    /// The answer to a line; empty where the connection ended instead.
    fn asked(client: &TcpStream, line: &str) -> String {
        let mut answer = String::new();
        let _ = (&*client).write_all(format!("{line}\n").as_bytes());
        let _ = BufReader::new(client).read_line(&mut answer);
        answer.trim_end().to_owned()
    }

    #[test]
    fn a_commit_is_cut_after_it_was_forwarded_and_before_its_answer() {
        let (server, heard) = echo();
        let proxy = Proxy::before(server);
        let connect = || TcpStream::connect(proxy.address).unwrap();
        let client = connect();
        assert_eq!(asked(&client, "COMMIT"), "COMMIT", "nothing is to be cut");
        assert_eq!(heard.recv().unwrap(), "COMMIT");

        proxy.cut_next(Cut::AfterCommit, 1);
        assert_eq!(asked(&client, "insert"), "insert");
        assert_eq!(heard.recv().unwrap(), "insert");
        assert_eq!(asked(&client, "commit"), "");
        assert_eq!(heard.recv().unwrap(), "commit", "it was forwarded");

        let client = connect();
        assert_eq!(asked(&client, "COMMIT"), "COMMIT", "one cut is one cut");
        assert_eq!(heard.recv().unwrap(), "COMMIT");
        proxy.cut_next(Cut::BeforeCommit, 1);
        assert_eq!(asked(&client, "COMMIT"), "");
        let client = connect();
        proxy.cut_next(Cut::AfterAny, 1);
        assert_eq!(asked(&client, "insert"), "");
        assert_eq!(heard.recv().unwrap(), "insert", "the commit before was not forwarded");
        assert_eq!(proxy.cuts(), 3);

        proxy.cut_next(Cut::AfterCommit, 2);
        assert_eq!(["COMMIT"; 3].map(|line| asked(&connect(), line)), ["", "", "COMMIT"]);
    }

    #[test]
    fn all_connections_are_cut_and_new_ones_work() {
        let (server, _heard) = echo();
        let proxy = Proxy::before(server);
        let clients = [(); 3].map(|()| TcpStream::connect(proxy.address).unwrap());
        for client in &clients {
            assert_eq!(asked(client, "hello"), "hello");
        }
        proxy.cut_next(Cut::AfterCommit, 1);
        proxy.relent();
        proxy.cut_all();
        for client in &clients {
            assert_eq!(asked(client, "hello"), "");
        }
        let client = TcpStream::connect(proxy.address).unwrap();
        assert_eq!(asked(&client, "COMMIT"), "COMMIT");
        assert_eq!(proxy.cuts(), 3);
    }
}
