//! When a generation is set aside: it was called so many times in a row
//! without one answer.
//!
//! The two roles are counted apart: a plugin whose dispatcher answers and whose
//! every execution traps is as useless as one that never answers.

use super::outcome::{Crash, Ending, Progress};

/// Which of a plugin's two functions was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `dispatch`.
    Dispatch,
    /// `execute`.
    Execute,
}

impl Call {
    /// What its calls are called, for messages.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatches",
            Self::Execute => "executions",
        }
    }
}

/// What the end of a call says about the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered, if only to say that it failed.
    Answer,
    /// It crashed, ran into its deadline, or did not start.
    Crash,
    /// Nothing: the host or a person ended the call, it was never made, or it ran
    /// out of time while it got on.
    Neither,
}

impl Sign {
    /// What the end of an attempt after this `progress` says.
    ///
    /// A call that changed something and ran out of time, of fuel, of changes or of
    /// bytes to write may have had more to do than one call can: that says nothing
    /// about the plugin. It costs the task an attempt, which bounds a plugin that
    /// only pretends.
    #[must_use]
    pub fn of(ending: &Ending, progress: Progress) -> Self {
        match ending {
            // Whoever met a hold answered.
            Ending::Answered(_) | Ending::Held { .. } => Self::Answer,
            Ending::Crashed(Crash::Deadline(_) | Crash::Fuel(_) | Crash::Changes(_) | Crash::Written(_))
                if progress.changes > 0 =>
            {
                Self::Neither
            }
            Ending::Crashed(_) | Ending::NotStarted(_) => Self::Crash,
            Ending::Stopped | Ending::Interrupted | Ending::OverBudget | Ending::Untried(_) | Ending::Hindered => {
                Self::Neither
            }
        }
    }
}

/// Counts one slot's crashes in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// So many in a row break it; 0 never does.
    most: u32,
    /// The generation that is counted.
    generation: u64,
    dispatches: u32,
    executions: u32,
}

impl Breaker {
    /// Breaks at `most` crashes in a row; never where that is 0.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most, generation: 0, dispatches: 0, executions: 0 }
    }

    /// Takes in how a call of `generation` ended. Answers whether that is one
    /// crash in a row too many; then it counts from zero again. What is heard
    /// of an earlier generation late counts for nothing.
    pub fn heard(&mut self, generation: u64, call: Call, sign: Sign) -> bool {
        if self.most == 0 || generation < self.generation {
            return false;
        }
        if generation > self.generation {
            *self = Self { generation, ..Self::new(self.most) };
        }
        let count = match call {
            Call::Dispatch => &mut self.dispatches,
            Call::Execute => &mut self.executions,
        };
        match sign {
            Sign::Answer => *count = 0,
            Sign::Crash => *count += 1,
            Sign::Neither => {}
        }
        let breaks = *count >= self.most;
        if breaks {
            *count = 0;
        }
        breaks
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Call::{Dispatch, Execute};
    use super::Sign::{Answer, Crash, Neither};
    use super::*;
    use crate::domain::outcome::{Crash as Crashed, Failure, Outcome};

    const NOTHING: Progress = Progress { changes: 0, removed: 0 };

    /// (generation, call, sign, whether it breaks at three).
    type Line = (u64, Call, Sign, bool);

    #[test]
    fn what_breaks() {
        let tables: [(&str, &[Line]); 7] = [
            ("three in a row", &[(1, Execute, Crash, false), (1, Execute, Crash, false), (1, Execute, Crash, true)]),
            (
                "an answer in between",
                &[
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, false),
                    (1, Execute, Answer, false),
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, true),
                ],
            ),
            (
                "what the host ended is neither",
                &[
                    (1, Execute, Crash, false),
                    (1, Execute, Neither, false),
                    (1, Execute, Crash, false),
                    (1, Execute, Neither, false),
                    (1, Execute, Crash, true),
                ],
            ),
            (
                "a good dispatch forgives no execution",
                &[
                    (1, Execute, Crash, false),
                    (1, Dispatch, Answer, false),
                    (1, Execute, Crash, false),
                    (1, Dispatch, Answer, false),
                    (1, Execute, Crash, true),
                ],
            ),
            (
                "nor does a good execution forgive a dispatch",
                &[
                    (1, Dispatch, Crash, false),
                    (1, Dispatch, Crash, false),
                    (1, Execute, Answer, false),
                    (1, Execute, Crash, false),
                    (1, Dispatch, Crash, true),
                ],
            ),
            (
                "another generation begins at zero, and the earlier one is heard no more",
                &[
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, false),
                    (2, Execute, Crash, false),
                    (1, Execute, Crash, false),
                    (1, Execute, Answer, false),
                    (2, Execute, Crash, false),
                    (2, Execute, Crash, true),
                ],
            ),
            (
                "after it broke it counts from zero",
                &[
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, true),
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, false),
                    (1, Execute, Crash, true),
                ],
            ),
        ];
        for (what, lines) in tables {
            let mut breaker = Breaker::new(3);
            for (number, (generation, call, sign, breaks)) in lines.iter().enumerate() {
                assert_eq!(breaker.heard(*generation, *call, *sign), *breaks, "{what}, line {number}");
            }
        }
    }

    #[test]
    fn zero_switches_it_off_and_one_breaks_at_once() {
        let mut off = Breaker::new(0);
        assert!((0..1000).all(|_| !off.heard(1, Execute, Crash)));
        assert!(Breaker::new(1).heard(1, Dispatch, Crash));
    }

    #[test]
    fn what_an_ending_says() {
        for (ending, sign) in [
            (Ending::Answered(Ok(Outcome::Done(None))), Answer),
            (Ending::Answered(Err(Failure::Permanent("no".to_owned()))), Answer),
            (Ending::Crashed(Crashed::Trap("x".to_owned())), Crash),
            (Ending::Crashed(Crashed::Deadline(Duration::ZERO)), Crash),
            (Ending::NotStarted(Crashed::Start("x".to_owned())), Crash),
            (Ending::Untried("the mount is gone".to_owned()), Neither),
            (Ending::Hindered, Neither),
            (Ending::Stopped, Neither),
            (Ending::Interrupted, Neither),
        ] {
            assert_eq!(Sign::of(&ending, NOTHING), sign, "{ending:?}");
        }
    }

    #[test]
    fn what_ran_out_of_time_while_it_changed_files_says_nothing() {
        let some = Progress { changes: 1, removed: 0 };
        for (ending, sign) in [
            (Ending::Crashed(Crashed::Deadline(Duration::ZERO)), Neither),
            (Ending::Crashed(Crashed::Fuel(7)), Neither),
            (Ending::Crashed(Crashed::Changes(7)), Neither),
            (Ending::Crashed(Crashed::Written(7)), Neither),
            (Ending::Crashed(Crashed::Trap("x".to_owned())), Crash),
            (Ending::Crashed(Crashed::Answer(7)), Crash),
            (Ending::Answered(Ok(Outcome::Done(None))), Answer),
        ] {
            assert_eq!(Sign::of(&ending, some), sign, "{ending:?}");
        }
    }
}
