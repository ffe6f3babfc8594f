//! Says what it was given: variables, arguments, the folders that are open from
//! the start, and whether standard input has anything.

use sweepd_sdk::{Executor, Failure, Outcome, Task};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        Ok(Outcome::done_with(given::all()))
    }
}

sweepd_guests::runs_all!(Guest);

#[cfg(target_arch = "wasm32")]
mod given {
    use wasip2::cli::environment::{get_arguments, get_environment, initial_cwd};
    use wasip2::cli::stdin::get_stdin;
    use wasip2::filesystem::preopens::get_directories;

    pub(crate) fn all() -> String {
        let folders: Vec<_> = get_directories().into_iter().map(|(_, path)| path).collect();
        let input = get_stdin().blocking_read(1).map_or(0, |bytes| bytes.len());
        format!(
            "variables={} arguments={} folder={} open={} input={input}",
            get_environment().len(),
            get_arguments().len(),
            initial_cwd().is_some(),
            folders.join(",")
        )
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod given {
    pub(crate) fn all() -> String {
        String::new()
    }
}
