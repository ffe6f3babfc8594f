//! The command line: one file a command, and what all of them share.
//!
//! Standard output has what was asked for, standard error has the log, progress
//! and errors. Exit codes: 0 done, 1 not done (or not all of it), 2 wrong usage
//! or, by `status --check`, something is wrong.
// length: a third of it is the tests of what is understood.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{Absent, Config};
use crate::domain::printable::printable;

mod address_space;
mod compile;
mod config;
mod confine;
mod effects;
mod enqueue;
mod error;
mod hold;
mod import_legacy;
mod lines;
mod logging;
mod look;
mod migrate;
mod mount;
mod pause;
mod plan;
mod plugin;
mod progress;
mod queue;
mod run;
mod screen;
mod signals;
mod space;
mod start;
mod status;
mod store;
mod table;
mod tasks;
mod trash;
mod words;

use error::CliError;

/// The exit code of a program that panicked, as without a hook.
const PANICKED: u8 = 101;

/// How long the threads of a finished command may take to end.
const AFTER: Duration = Duration::from_secs(1);

/// A job host whose jobs are WebAssembly components.
///
/// sweepd keeps a queue of tasks and runs each through the plugin of its job: a
/// policy in WebAssembly that sees only the directories it was given. Replace
/// the plugin's file, and the next batch runs the new policy.
#[derive(Debug, Parser)]
#[command(name = "sweepd", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_long_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sweepd config check                       is sweepd.toml right, and what does it mean?
  sweepd plan video-clear                   what would a sweep do, and why?
  sweepd run                                start the host
  sweepd enqueue video-clear holiday.mp4    ask for a video to be deleted
  sweepd status                             jobs, backlog, nodes, plugins, errors
  sweepd tasks list --state dead            what failed for good, and why
  sweepd tasks retry --job video-clear      queue all of that again
  sweepd effects --since 2h                 what plugins did to files
  sweepd trash restore video-clear --path /srv/videos/2024/ --since 2h

Exit codes: 0 done, 1 not done or not all of it, 2 wrong usage (status --check: something is wrong).
Every value of the configuration can be set by SWEEPD_…: docs/reference/config.md.";

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SWEEPD_CONFIG",
        hide_env_values = true,
        default_value = "sweepd.toml"
    )]
    config: PathBuf,

    /// What to log: off, error, warn, info, debug, trace, or by module, such as `info,sweepd::store=debug`
    /// [default: info for run, else warn; for plan also what guests print]
    #[arg(long, global = true, value_name = "FILTER", env = "SWEEPD_LOG", hide_env_values = true)]
    log: Option<String>,

    /// How to log, on standard error; auto is human on a terminal, JSON otherwise
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "SWEEPD_LOG_FORMAT",
        hide_env_values = true,
        default_value = "auto"
    )]
    log_format: logging::Format,
}

impl Global {
    /// Looks at no mount.
    fn load(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.config, variables())?)
    }

    /// Looks at all mounts and plugin files, in another process: this one is about
    /// to confine itself. Also answers which mounts cannot be used now.
    fn load_with_mounts(&self) -> Result<(Config, Vec<Absent>), CliError> {
        let mut config = self.load()?;
        let found = look::in_child(&own_program(), &config.paths()).map_err(CliError::Look)?;
        let absent = config.settle(&found)?;
        Ok((config, absent))
    }
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// This program, also after its file was replaced by an upgrade.
fn own_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sweepd"))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the host
    ///
    /// Runs until SIGTERM, ctrl-c or SIGHUP: then running tasks may finish within
    /// `shutdown_grace`, the rest is put back. A second SIGTERM or ctrl-c ends it at
    /// once.
    Run,

    /// Queue tasks for a job
    Enqueue(enqueue::EnqueueArgs),

    /// Show jobs, backlog, nodes, plugins and errors
    Status(status::StatusArgs),

    /// Look at tasks; retry, cancel or bury them
    #[command(subcommand)]
    Tasks(tasks::TasksCommand),

    /// Show what a sweep would do now, without doing it
    ///
    /// Runs the real policy over the real queue and files with every change
    /// simulated: nothing changes on disk or in the database.
    Plan(plan::PlanArgs),
    /// Pause a job, until it is resumed
    Pause(pause::PauseArgs),

    /// Resume a paused job
    Resume(pause::ResumeArgs),

    /// Show what plugins did to files
    Effects(effects::EffectsArgs),

    /// Look at what plugins removed; restore or purge it
    #[command(subcommand)]
    Trash(trash::TrashCommand),

    /// Keep files from every plugin of a job
    #[command(subcommand)]
    Hold(hold::HoldCommand),

    /// Look at the mounts of jobs; accept what stands there
    #[command(subcommand)]
    Mount(mount::MountCommand),

    /// Bring the queue's schema up to date
    Migrate(migrate::MigrateArgs),

    /// Queue what the table of the replaced service holds
    ImportLegacy(import_legacy::ImportArgs),

    /// Look at plugins, and say which one serves
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),

    /// Look at the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),

    /// Compile the component on standard input to standard output
    #[command(hide = true)]
    Compile(compile::CompileArgs),

    /// Look at mounts
    #[command(hide = true)]
    Look(look::LookArgs),
}

/// Runs what the command line asks for; the process ends with what it answers.
#[must_use]
pub fn main() -> ExitCode {
    crate::faults::set_clock();
    let done = match Cli::try_parse() {
        // A panic was told by its hook; its line must not be lost at the end.
        Ok(cli) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let queues = matches!(cli.command, Command::Enqueue(_) | Command::ImportLegacy(_));
            dispatch(cli).unwrap_or_else(|error| error.report(queues))
        })),
        Err(error) => Ok(not_understood(error)),
    };
    logging::end();
    done.unwrap_or(ExitCode::from(PANICKED))
}

/// Says what is wrong with the arguments, or shows the help that they ask for.
fn not_understood(error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help and version are this program's own words.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // What is repeated of an argument is to be on one line, like the argument.
    let shown = std::env::args_os().map(|argument| printable(&argument.to_string_lossy()).into_owned());
    let told = Cli::try_parse_from(shown).err().unwrap_or(error);
    told.render().to_string().lines().for_each(logging::say);
    ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(2))
}

fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    let Cli { global, command } = cli;
    let usual = match command {
        Command::Run => "info",
        // What guests print belongs to what they would do.
        Command::Plan(_) => "warn,sweepd::guest=info",
        _ => "warn",
    };
    match &command {
        Command::Compile(args) => return Ok(compile::compile(args)),
        Command::Look(args) => return Ok(look::child(args)),
        _ => {}
    }
    // Those two write to a pipe alone, and open nothing that they can do without.
    signals::outlive_file_size();
    logging::init(global.log.as_deref().unwrap_or(usual), global.log_format)?;
    if !matches!(command, Command::Run | Command::Plan(_)) {
        logging::start();
    }
    match command {
        Command::Run => {
            let (config, absent) = global.load_with_mounts()?;
            let terminal = signals::hangup_is_ignored();
            // Before any thread: the wall holds for this one and what it starts.
            let wall = confine::confine(&config)?;
            logging::start();
            block_on(tokio::runtime::Builder::new_multi_thread(), async {
                Ok(run::run(config, &absent, wall, terminal).await?)
            })
        }
        Command::Enqueue(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), enqueue::enqueue(config, args))
        }
        Command::Status(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), status::status(config, args))
        }
        Command::Tasks(command) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), tasks::tasks(config, command))
        }
        Command::Plan(args) => {
            let (config, _) = global.load_with_mounts()?;
            confine::confine_to_look(&config, args.files())?;
            logging::start();
            block_on(tokio::runtime::Builder::new_multi_thread(), async { plan::plan(&config, args).await })
        }
        Command::Pause(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), pause::pause(config, args))
        }
        Command::Resume(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), pause::resume(config, args))
        }
        Command::Effects(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), effects::effects(config, args))
        }
        Command::Trash(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), trash::trash(config, args))
        }
        Command::Hold(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), hold::hold(config, args))
        }
        Command::Mount(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), mount::mount(config, args))
        }
        Command::Migrate(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), migrate::migrate(config, args))
        }
        Command::ImportLegacy(args) => {
            let config = global.load()?;
            block_on(tokio::runtime::Builder::new_current_thread(), import_legacy::import(config, args))
        }
        Command::Plugin(command) => plugin::plugin(&command, || global.load()),
        Command::Config(config::ConfigCommand::Check) => config::check(&Config::check(&global.config, variables())?),
        Command::Compile(_) | Command::Look(_) => {
            unreachable!("it was done above, before anything that it does not need")
        }
    }
}

fn block_on(
    mut runtime: tokio::runtime::Builder,
    command: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    let runtime = runtime.enable_all().build().map_err(CliError::Runtime)?;
    let code = runtime.block_on(command);
    runtime.shutdown_timeout(AFTER);
    code
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_understood() {
        for good in [
            "sweepd run --config x.toml",
            "sweepd --log debug --log-format json run",
            "sweepd enqueue video-clear a b -",
            "sweepd enqueue video-clear --priority high --run-at 2026-01-01T00:00:00Z -- -rf",
            "sweepd status --json --check",
            "sweepd plugin inspect --json a.wasm",
            "sweepd plugin history --json video-clear",
            "sweepd plugin rollback video-clear",
            "sweepd plugin rollback video-clear 3f9a --why lunch",
            "sweepd plugin pin video-clear 3f9a",
            "sweepd plugin unpin video-clear",
            "sweepd config check",
            "sweepd enqueue --ndjson video-clear -",
            "sweepd tasks list --job video-clear --state dead --limit 5 --after 7 --json",
            "sweepd tasks show 7 --json",
            "sweepd tasks retry 7 8",
            "sweepd tasks cancel --job video-clear --state running --why lunch --yes",
            "sweepd tasks bury --job video-clear",
            "sweepd plan video-clear --plugin new.wasm --limit 5 --json",
            "sweepd plan video-clear --against new.wasm --no-scan",
            "sweepd pause video-clear --why lunch",
            "sweepd resume video-clear --once-over-budget",
            "sweepd effects --job j --task 7 --since 2h --until 2026-01-01T00:00:00Z --path /srv --operation remove --limit 5",
            "sweepd effects --json",
            "sweepd hold add j 2024/** --until 30d --why legal",
            "sweepd hold list j --json",
            "sweepd hold remove j 7",
            "sweepd trash list",
            "sweepd trash list j --path /srv --since 2h --limit 7 --json",
            "sweepd trash restore j 0123456789abcdef-1 0123456789abcdef-2",
            "sweepd trash restore j --path /srv --since 2h",
            "sweepd trash restore j --task 7",
            "sweepd trash restore j --since 2h",
            "sweepd trash restore j --all",
            "sweepd trash purge j 0123456789abcdef-1",
            "sweepd trash purge j --all --yes",
            "sweepd trash purge j --older-than 12h",
            "sweepd mount list",
            "sweepd mount list j --json",
            "sweepd mount accept j",
            "sweepd mount accept j /srv",
            "sweepd migrate --dry-run",
            "sweepd import-legacy --url mysql://h/d --table t --job video-clear --follow",
            "sweepd compile --max-compiled 1",
        ] {
            assert!(Cli::try_parse_from(good.split(' ')).is_ok(), "{good}");
        }
        for bad in [
            "sweepd",
            "sweepd enqueue video-clear",
            "sweepd enqueue video-clear --priority top a",
            "sweepd enqueue video-clear --run-at soon a",
            "sweepd enqueue --ndjson --null video-clear -",
            "sweepd tasks",
            "sweepd tasks list --limit 0",
            "sweepd tasks show x",
            "sweepd tasks retry",
            "sweepd tasks retry --state dead",
            "sweepd tasks retry 7 --job video-clear",
            "sweepd pause",
            "sweepd effects --since soon",
            "sweepd effects --operation fly",
            "sweepd effects --limit 0",
            "sweepd hold add j 2024",
            "sweepd hold add j a/../b --why x",
            "sweepd hold add j a --why x --until soon",
            "sweepd hold remove j x",
            "sweepd trash restore j",
            "sweepd trash restore j --all --since 2h",
            "sweepd trash restore j --path=",
            "sweepd trash restore j 7",
            "sweepd trash restore j 0123456789abcdef-1 --task 7",
            "sweepd trash purge j",
            "sweepd trash purge j --all --older-than 1h",
            "sweepd trash purge j 0123456789abcdef-1 --all",
            "sweepd mount accept",
            "sweepd import-legacy --url mysql://h/d",
            "sweepd import-legacy --url mysql://h/d --job j --table a`b",
            "sweepd plugin inspect",
            "sweepd plugin history",
            "sweepd plugin pin video-clear",
            "sweepd plugin unpin video-clear 3f9a",
            "sweepd --log-format xml run",
        ] {
            assert!(Cli::try_parse_from(bad.split(' ')).is_err(), "{bad}");
        }
    }
}
