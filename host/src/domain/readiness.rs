//! Whether a host and its jobs can do their work, and where not, why: in a word
//! for machines and a sentence for people.
//!
//! The two are apart. A host is ready where it serves requests and its loops
//! live; a job can work where nothing keeps its tasks from being run. One job
//! that cannot work is no reason to send requests elsewhere.

use serde::{Deserialize, Serialize};

/// Why a host would not serve requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostReason {
    /// It waits for something before it can begin.
    Starting,
    /// It is shutting down.
    Stopping,
    /// A loop or a thread ended, and is not up again.
    PartDown,
    /// The disk of the queue has no room for new tasks.
    QueueFull,
    /// The queue cannot be read or written.
    QueueUnavailable,
}

/// A host that would not serve requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// In a word.
    pub reason: HostReason,
    /// What is missing. It names no file: anybody may ask.
    pub detail: String,
}

/// Why a job does not run its tasks at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobReason {
    /// Its labels bind it to other nodes.
    Elsewhere,
    /// A person, or the job itself, paused it.
    Paused,
    /// Nothing serves yet: its plugin is being compiled.
    Compiling,
    /// Nothing serves: its plugin is missing, was refused, or is set aside.
    NoPlugin,
    /// No guest of its plugin can be started, for lack of address space as an
    /// example.
    NoGuest,
    /// A mount is missing, read-only, does not answer or is kept out.
    Mount,
    /// Changes of files cannot be made, for a full disk as an example.
    CannotChangeFiles,
    /// Its last sweep failed.
    Failing,
}

impl JobReason {
    /// The word that machines read.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::Paused => "paused",
            Self::Compiling => "compiling",
            Self::NoPlugin => "no-plugin",
            Self::NoGuest => "no-guest",
            Self::Mount => "mount",
            Self::CannotChangeFiles => "cannot-change-files",
            Self::Failing => "failing",
        }
    }
}

/// What keeps a job from its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CannotWork {
    /// In a word.
    pub reason: JobReason,
    /// In a sentence.
    pub detail: String,
}

/// A job that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobNotReady {
    /// Its name.
    pub job: String,
    /// Why.
    #[serde(flatten)]
    pub why: CannotWork,
}

/// Whether a plugin serves a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginFacts<'a> {
    /// One does.
    Serves,
    /// None does yet: it is being compiled.
    Compiling,
    /// None does, and why, where that is known.
    Missing(Option<&'a str>),
}

/// What is known of a job at one moment.
#[derive(Clone, Copy, Debug)]
pub struct JobFacts<'a> {
    /// The labels that bind it to other nodes.
    pub elsewhere: Option<&'a str>,
    /// Why it is paused.
    pub paused: Option<&'a str>,
    /// Whether its plugin serves.
    pub plugin: PluginFacts<'a>,
    /// Which mount it waits for, and why.
    pub waiting: Option<&'a str>,
    /// What the machine lacked when a guest of its plugin was to be started last.
    pub lack: Option<&'a str>,
    /// What keeps it, or all jobs of the host, from changing files.
    pub hindered: Option<&'a str>,
    /// Why its last sweep failed.
    pub failing: Option<&'a str>,
}

impl JobFacts<'_> {
    /// What keeps the job from its work; of several things the one that has to
    /// be mended first.
    #[must_use]
    pub fn cannot_work(&self) -> Option<CannotWork> {
        let because = |reason, detail: &str| Some(CannotWork { reason, detail: detail.to_owned() });
        if let Some(labels) = self.elsewhere {
            return because(JobReason::Elsewhere, &format!("it runs on nodes that are labelled {labels}"));
        }
        if let Some(reason) = self.paused {
            return because(JobReason::Paused, reason);
        }
        match self.plugin {
            PluginFacts::Serves => {}
            PluginFacts::Compiling => return because(JobReason::Compiling, "its plugin is being compiled"),
            PluginFacts::Missing(why) => {
                return because(JobReason::NoPlugin, why.unwrap_or("its plugin is being loaded"));
            }
        }
        let lack = self.lack.map(|why| format!("no guest can be started: {why}"));
        let last = [
            (JobReason::NoGuest, lack.as_deref()),
            (JobReason::Mount, self.waiting),
            (JobReason::CannotChangeFiles, self.hindered),
            (JobReason::Failing, self.failing),
        ];
        last.into_iter().find_map(|(reason, why)| because(reason, why?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::Digest;
    use super::super::status::{CompilingStatus, Event, GenerationStatus, SlotStatus};
    use super::super::time::Timestamp;
    use super::*;

    fn slot(serves: bool) -> SlotStatus {
        let generation = GenerationStatus {
            number: 1,
            digest: Digest::of(b""),
            loaded_at: Timestamp(1),
            age_ms: 0,
            size: 1,
            world: "job",
            kept: false,
        };
        SlotStatus { generation: serves.then_some(generation), ..SlotStatus::default() }
    }

    #[test]
    fn what_has_to_be_mended_first_is_told() {
        let serving = slot(true);
        let fine = JobFacts {
            elsewhere: None,
            paused: None,
            plugin: serving.plugin(),
            waiting: None,
            lack: None,
            hindered: None,
            failing: None,
        };
        assert_eq!(fine.cannot_work(), None);
        let told = |facts: JobFacts<'_>| facts.cannot_work().map(|cannot| (cannot.reason, cannot.detail));
        let (why, empty) = (Some("why"), slot(false));
        let refused = SlotStatus { error: Some(Event { at: Timestamp(1), message: "why".to_owned() }), ..slot(false) };
        let since = CompilingStatus { since: Timestamp(1), digest: Digest::of(b"") };
        let compiling = SlotStatus { compiling: Some(since.clone()), ..refused.clone() };
        let swapping = SlotStatus { compiling: Some(since), ..slot(true) };
        assert_eq!(
            fine.cannot_work(),
            JobFacts { plugin: swapping.plugin(), ..fine }.cannot_work(),
            "an earlier one serves"
        );
        let failing = JobFacts { failing: why, ..fine };
        let hindered = JobFacts { hindered: why, ..failing };
        let waiting = JobFacts { waiting: why, ..hindered };
        let lacking = JobFacts { lack: why, ..waiting };
        let without = JobFacts { plugin: refused.plugin(), ..lacking };
        let paused = JobFacts { paused: why, ..without };
        for (facts, reason) in [
            (failing, JobReason::Failing),
            (hindered, JobReason::CannotChangeFiles),
            (waiting, JobReason::Mount),
            (without, JobReason::NoPlugin),
            (paused, JobReason::Paused),
        ] {
            assert_eq!(told(facts), Some((reason, "why".to_owned())));
        }
        assert_eq!(told(lacking), Some((JobReason::NoGuest, "no guest can be started: why".to_owned())));
        let reason_of = |facts: JobFacts<'_>| told(facts).map(|(reason, _)| reason);
        assert_eq!(reason_of(JobFacts { plugin: empty.plugin(), ..fine }), Some(JobReason::NoPlugin));
        assert_eq!(reason_of(JobFacts { plugin: compiling.plugin(), ..fine }), Some(JobReason::Compiling));
        assert_eq!(reason_of(JobFacts { elsewhere: why, ..paused }), Some(JobReason::Elsewhere));
    }

    #[test]
    fn a_reason_is_the_same_word_everywhere() {
        for reason in [
            JobReason::Elsewhere,
            JobReason::Paused,
            JobReason::Compiling,
            JobReason::NoPlugin,
            JobReason::NoGuest,
            JobReason::Mount,
            JobReason::CannotChangeFiles,
            JobReason::Failing,
        ] {
            assert_eq!(serde_json::to_value(reason).expect("it serialises"), reason.word());
        }
    }
}
