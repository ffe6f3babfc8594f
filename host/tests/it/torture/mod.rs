//! The torture test: real nodes are killed, stopped and cut off while writers
//! queue keys, and nothing acknowledged may be lost, nothing done twice at
//! once, nothing stuck and nothing buried.
//!
//! ```text
//!  writers ──HTTP──▶ nodes ──[proxy]──▶ [database server]
//!     │ sent/acked     │ start/work/end      ▲ stop, kill -9, read only, cut in a commit
//!     ▼                ▼                     │
//!   one trace, read by the checker      chaos ──▶ kill -9, SIGSTOP past the lease,
//!                                            a log that stalls or closes, a full disk,
//!                                            a clock that jumps, no descriptor left
//! ```
//! It proves itself: mutants of the code (`host/src/faults.rs`) are each
//! caught. Every run prints its seed; `SWEEPD_SEED` gives it one. A long one is
//! `cargo xtask torture --minutes N`.

mod chaos;
mod check;
mod line;
mod nodes;
mod proxy;
mod run;
pub(crate) mod servers;
mod troubles;
mod watch;
mod writer;

use std::env;
use std::time::Duration;

use self::chaos::Database;
use self::check::Violation;
use self::run::{Found, Torture};
use self::servers::Kind;

const POSTGRES: Database = Database::Shared(Kind::Postgres, 3);
const MARIADB: Database = Database::Shared(Kind::Mariadb, 3);

/// What continuous integration has time for, on each database.
const SHORT: Duration = Duration::from_secs(17);

/// A run that is as long has time for each kind of trouble.
const LONG: Duration = Duration::from_mins(2);

/// No round begins later, if a mutant was not caught until then.
const UNTIL_CAUGHT: Duration = Duration::from_secs(150);

fn seed() -> u64 {
    env::var("SWEEPD_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("SWEEPD_SEED is a number"))
}

/// Nothing may be wrong, and enough must have happened for that to mean
/// something.
fn survives(database: Database, length: Duration) -> Found {
    let found = Torture { database, mutant: None, length, seed: seed() }.run();
    assert_eq!(found.violations, [], "{found}");
    let seen = &found.seen;
    assert!(seen.killed > 0, "nodes were killed: {found}");
    assert!(seen.acked > 200 && seen.started > 200 && seen.failed > 0, "much was done: {found}");
    assert!(2 * seen.sent_hot >= seen.sent, "at least half of what is sent are hot keys: {found}");
    // On a slow machine a short run has no time for all.
    let mut kinds = found.troubles.values().map(|times| *times > 0);
    let came = if length >= LONG { kinds.all(|came| came) } else { kinds.any(|came| came) };
    assert!(came, "nodes were in trouble: {found}");
    println!("{found}");
    found
}

/// The same run on code with a mistake finds it.
fn is_caught(mutant: &'static str, database: Database, signature: impl Fn(&Violation) -> bool) {
    let found = Torture { database, mutant: Some(mutant), length: UNTIL_CAUGHT, seed: seed() }.run();
    assert!(found.violations.iter().any(signature), "{mutant} was not caught: {found}");
    println!("caught: {found}");
}

#[test]
fn sqlite_survives() {
    survives(Database::Sqlite, SHORT);
}

/// On a server: nodes take over from each other, and connections are cut.
fn survives_with_others(database: Database) {
    let found = survives(database, SHORT);
    let seen = &found.seen;
    assert!(found.cuts > 0, "connections were cut: {found}");
    assert!(seen.paused > 0 && seen.leases > 0, "nodes were stopped, and lost their leases: {found}");
}

#[test]
fn postgres_survives() {
    survives_with_others(POSTGRES);
}

#[test]
fn mariadb_survives() {
    survives_with_others(MARIADB);
}

#[test]
fn a_missing_check_of_the_fence_is_caught() {
    is_caught("no-fence-check", POSTGRES, |_| true);
}

#[test]
fn an_unknown_commit_that_is_taken_for_lost_is_caught() {
    let signature = |violation: &_| matches!(violation, Violation::Refused { .. } | Violation::Stuck { .. });
    is_caught("unknown-is-lost", POSTGRES, signature);
}

#[test]
fn a_dropped_successor_is_caught() {
    is_caught("drop-successor", Database::Sqlite, |violation| matches!(violation, Violation::Lost { .. }));
}

#[test]
fn an_acknowledgement_before_the_commit_is_caught() {
    is_caught("acknowledge-before-commit", Database::Sqlite, |violation| matches!(violation, Violation::Lost { .. }));
}

#[test]
fn a_loss_that_is_an_attempt_is_caught() {
    is_caught("loss-is-attempt", Database::Sqlite, |violation| matches!(violation, Violation::Charged { .. }));
}

/// For `cargo xtask torture`.
#[test]
#[ignore = "takes as long as SWEEPD_TORTURE_MINUTES says"]
fn long() {
    let minutes = env::var("SWEEPD_TORTURE_MINUTES").expect("SWEEPD_TORTURE_MINUTES is set");
    let minutes = minutes.parse().expect("SWEEPD_TORTURE_MINUTES is a number");
    let database = env::var("SWEEPD_TORTURE_DATABASE");
    let database = match database.as_deref().unwrap_or("sqlite") {
        "sqlite" => Database::Sqlite,
        "postgres" => POSTGRES,
        "mariadb" => MARIADB,
        unknown => panic!("SWEEPD_TORTURE_DATABASE={unknown} is none of sqlite, postgres, mariadb"),
    };
    survives(database, Duration::from_mins(minutes));
}
