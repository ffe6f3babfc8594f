//! The compiler's process, from both sides: the host sends a component to the
//! child's standard input and reads machine code from its standard output.
//!
//! The child limits its own time and memory, and the size of what it answers,
//! before the host sees any of it. It writes nothing but its answer.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytesize::ByteSize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::bounds::{self, FAILED, OUT_OF_MEMORY, REFUSED, TOO_LARGE};
use super::{CompileError, CompileLimits, Compiled, MAX_COMPONENT};
use crate::plugin::blame;
use crate::plugin::engine::{Engine, EngineOptions};
use crate::plugin::generation::in_one_line;
use crate::supervise;

/// What the child prints of a refused component is cut here.
const MAX_MESSAGE: usize = 2000;
/// So much of what it prints is read at all, in bytes.
const MAX_PRINTED: u64 = 64 << 10;
/// Machine code is about three times as large as its component. So many times is
/// allowed; what is far beyond is made to fill memory.
const RATIO: u64 = 32;
/// Small components may compile to so much whatever their size, in bytes.
const SMALL: u64 = 4 << 20;

/// How to run the child.
pub(super) struct Child<'a> {
    pub(super) program: &'a Path,
    pub(super) metered: bool,
    pub(super) reservation: Option<u64>,
    pub(super) max_compiled: u64,
    pub(super) limits: CompileLimits,
}

impl Child<'_> {
    /// Compiles. Dropping the future kills the child.
    pub(super) async fn compile(&self, bytes: &[u8]) -> Result<Compiled, CompileError> {
        let (status, code, printed) =
            tokio::time::timeout(self.limits.time, self.run(bytes)).await.map_err(|_| {
                let most = self.limits.time;
                CompileError::TooExpensive(format!("it took longer than {most:?} (sandbox.compile_time)"))
            })??;
        let message = String::from_utf8_lossy(&printed);
        let message = crate::domain::outcome::cut(message.trim().chars().take(MAX_MESSAGE).collect());
        if status.code() == Some(0) {
            return Ok(Compiled { bytes: code, from: 0 });
        }
        Err(bounds::failure(status, message, self.limits))
    }

    /// Answers how the child ended, its machine code, and what it printed.
    async fn run(&self, bytes: &[u8]) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), CompileError> {
        let unavailable = |error: std::io::Error| {
            CompileError::Unavailable(format!("running {} compile: {error}", self.program.display()))
        };
        let most = self.max_compiled;
        let mut child = Command::new(self.program)
            .arg("compile")
            .args(["--max-compiled", &most.to_string()])
            .args(["--max-seconds", &self.limits.time.as_secs().max(1).to_string()])
            .args(["--max-memory", &self.limits.memory.to_string()])
            .args(self.metered.then_some("--metered"))
            .args(self.reservation.map(|bytes| format!("--reservation={bytes}")))
            .env_clear()
            // It cannot read how many cores it may use: behind the wall that is
            // another process's affair.
            .env("RAYON_NUM_THREADS", std::thread::available_parallelism().map_or(1, usize::from).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(unavailable)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let send = async {
            // A child that refuses before it has read all closes the pipe;
            // what it says matters, not the pipe.
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(bytes).await;
            }
        };
        let receive = async {
            let mut code = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(most.saturating_add(1)).read_to_end(&mut code).await?;
            }
            Ok::<_, std::io::Error>(code)
        };
        let listen = async {
            let mut printed = Vec::new();
            if let Some(mut stderr) = stderr {
                (&mut stderr).take(MAX_PRINTED).read_to_end(&mut printed).await?;
                // The rest is of no use, but a full pipe would hold the child up.
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            }
            Ok::<_, std::io::Error>(printed)
        };
        let ((), code, printed) = tokio::join!(send, receive, listen);
        let (code, printed) = (code.map_err(unavailable)?, printed.map_err(unavailable)?);
        if code.len() as u64 > most {
            // The child looks at this itself; one that does not is not ours.
            return Err(CompileError::TooExpensive("the compiler answered with more than was allowed".to_owned()));
        }
        Ok((child.wait().await.map_err(unavailable)?, code, printed))
    }
}

/// What the host tells the child.
#[derive(Clone, Copy, Debug)]
pub struct ChildOptions {
    /// Whether the engine counts instructions.
    pub metered: bool,
    /// How much address space a memory of a guest reserves, in bytes, where that is
    /// not the usual.
    pub reservation: Option<u64>,
    /// Largest machine code, in bytes.
    pub max_compiled: u64,
    /// What compiling it may take.
    pub limits: CompileLimits,
}

/// The child's side: reads a component from standard input, writes its machine
/// code to standard output, and answers the process's exit code. What is wrong
/// goes to standard error.
#[must_use]
pub fn compile_in_child(options: ChildOptions) -> i32 {
    match answer(options) {
        Ok(()) => 0,
        Err((code, why)) => {
            // Nobody may be there to read it. The host does, and not a person.
            #[allow(clippy::disallowed_methods, reason = "the host reads it and escapes it")]
            let _ = writeln!(std::io::stderr(), "{why}");
            code
        }
    }
}

fn answer(options: ChildOptions) -> Result<(), (i32, String)> {
    let failed = |what: &'static str| move |error: std::io::Error| (FAILED, format!("{what}: {error}"));
    bounds::put(options.limits).map_err(failed("limiting the compiler"))?;
    let mut bytes = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(MAX_COMPONENT + 1).read_to_end(&mut bytes).map_err(failed("reading the component"))?;
    let ChildOptions { metered, reservation, .. } = options;
    let of = EngineOptions { metered, reservation, ..EngineOptions::default() };
    let engine = if may_start_threads() { Engine::new(&of) } else { Engine::of_one_thread(&of) };
    let engine = engine.map_err(|error| (FAILED, error.to_string()))?;
    let code = compile(&engine, &bytes, options.max_compiled)?;
    #[allow(clippy::disallowed_methods, reason = "machine code, for the host")]
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(failed("handing over the machine code"))
}

/// Whether as many threads as the compiler would like can be started. A limit of
/// processes would else end it.
fn may_start_threads() -> bool {
    let wanted = std::thread::available_parallelism().map_or(1, usize::from);
    let (hold, end) = mpsc::channel::<()>();
    let end = Arc::new(Mutex::new(end));
    let start = |_| {
        let end = Arc::clone(&end);
        // They end when nobody holds them any more.
        supervise::attended_thread("sweepd-try", move || {
            let _ = end.lock().unwrap_or_else(PoisonError::into_inner).recv();
        })
    };
    let started: Vec<_> = (0..=wanted).map(start).collect();
    let all = started.iter().all(Result::is_ok);
    drop(hold);
    for thread in started.into_iter().flatten() {
        let _ = thread.join();
    }
    all
}

/// Compiles, within what a component of this size may become.
fn compile(engine: &Engine, bytes: &[u8], max_compiled: u64) -> Result<Vec<u8>, (i32, String)> {
    let code = engine.precompile(bytes).map_err(|error| {
        let code = if blame::has_no_memory(&error) {
            OUT_OF_MEMORY
        } else if blame::of_the_machine(&error).is_some() {
            FAILED
        } else {
            REFUSED
        };
        (code, in_one_line(&error))
    })?;
    let size = bytes.len() as u64;
    let of_its_size = size.saturating_mul(RATIO).max(SMALL);
    let (is, shown) = (code.len() as u64, |bytes: u64| ByteSize(bytes).display().iec());
    if is > max_compiled {
        let why = format!("its machine code has {}, sandbox.max_compiled allows {}", shown(is), shown(max_compiled));
        return Err((TOO_LARGE, why));
    }
    if is > of_its_size {
        let why = format!("it has {}, its machine code {}: more than {}", shown(size), shown(is), shown(of_its_size));
        return Err((TOO_LARGE, why));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of an unsigned LEB128 number.
    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(number & 0x7f).expect("seven bits");
            number >>= 7;
            bytes.push(if number == 0 { low } else { low | 0x80 });
            if number == 0 {
                return bytes;
            }
        }
    }

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id][..], &leb(content.len()), content].concat()
    }

    /// A component of so many copies of a module.
    fn component(module: &[u8], copies: usize) -> Vec<u8> {
        let module = [&b"\0asm\x01\0\0\0"[..], module].concat();
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        for _ in 0..copies {
            bytes.extend(section(1, &module));
        }
        bytes
    }

    /// `i32.const NUMBER`, `end`; numbers below 2^20 have the same bytes as unsigned ones of four.
    fn at(number: usize) -> Vec<u8> {
        let low = |shift: usize| u8::try_from(number >> shift & 0x7f).expect("seven bits");
        vec![0x41, low(0) | 0x80, low(7) | 0x80, low(14) | 0x80, low(21), 0x0b]
    }

    /// A table of a million functions, of which the last is given.
    fn wide_table() -> Vec<u8> {
        let million = 1_000_000;
        [
            section(1, &[1, 0x60, 0, 0]),
            section(3, &[1, 0]),
            section(4, &[&[1, 0x70, 0][..], &leb(million)].concat()),
            section(9, &[&[1, 0][..], &at(million - 1), &[1, 0]].concat()),
            section(10, &[1, 2, 0, 0x0b]),
        ]
        .concat()
    }

    /// A table of a million times the same function, by its initial value.
    fn filled_table() -> Vec<u8> {
        let table = [&[1, 0x40, 0, 0x70, 0][..], &leb(1_000_000), &[0xd2, 0, 0x0b]].concat();
        [section(1, &[1, 0x60, 0, 0]), section(3, &[1, 0]), section(4, &table), section(10, &[1, 2, 0, 0x0b])].concat()
    }

    /// A memory with a byte at its beginning and one fifteen mebibytes behind.
    fn wide_memory() -> Vec<u8> {
        let data = |place: usize| [&[0][..], &at(place), &[1, 7]].concat();
        [section(5, &[1, 0, 0xff, 1]), section(11, &[&[2][..], &data(0), &data(15 << 20)].concat())].concat()
    }

    #[test]
    fn a_small_component_has_small_machine_code() {
        let engine = Engine::new(&EngineOptions::default()).unwrap();
        for (what, module) in [("table", wide_table()), ("filled", filled_table()), ("memory", wide_memory())] {
            let bytes = component(&module, 20);
            let code = compile(&engine, &bytes, u64::MAX).unwrap_or_else(|(_, why)| panic!("{what}: {why}"));
            // With the initial content of all tables and memories in it, it was 100 MB and more.
            assert!(code.len() < 1 << 20, "{what}: {} bytes become {}", bytes.len(), code.len());
        }
    }

    #[test]
    fn one_thread_makes_the_same_code() {
        let bytes = component(&wide_table(), 3);
        let [many, one] = [Engine::new(&EngineOptions::default()), Engine::of_one_thread(&EngineOptions::default())]
            .map(Result::unwrap);
        assert_eq!(many.compatibility(), one.compatibility());
        assert_eq!(compile(&many, &bytes, u64::MAX).unwrap(), compile(&one, &bytes, u64::MAX).unwrap());
        assert!(may_start_threads());
    }

    #[test]
    fn machine_code_that_is_too_large_stays_in_the_child() {
        let engine = Engine::new(&EngineOptions::default()).unwrap();
        let bytes = component(&wide_table(), 1);
        let size = compile(&engine, &bytes, u64::MAX).unwrap().len() as u64;
        assert!(compile(&engine, &bytes, size).is_ok());
        let (code, why) = compile(&engine, &bytes, size - 1).unwrap_err();
        assert_eq!(code, TOO_LARGE);
        assert!(why.contains("sandbox.max_compiled allows"), "{why}");
    }
}
