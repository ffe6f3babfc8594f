//! What the end of each call says about the plugin, and what the job does when
//! it is too much.

use crate::domain::breaker::{Call, Sign};
use crate::domain::outcome::cut;
use crate::plugin::Generation;

use super::job::Job;

impl Job {
    /// Takes in how a call of `generation` ended; `how` says it in words where
    /// it crashed. A generation that breaks is called no more: what runs of it
    /// is interrupted, the rest of its batches is put back, and none of that
    /// costs an attempt.
    pub(super) fn heard(&self, generation: &Generation, call: Call, sign: Sign, how: impl FnOnce() -> String) {
        if (call, sign) == (Call::Execute, Sign::Answer) && generation.answers() {
            self.slot.has_answered(generation);
        }
        if !self.breaker().heard(generation.number, call, sign) {
            return;
        }
        let why = format!("{} {} in a row without one answer, the last: {}", self.spec.breaker, call.plural(), how());
        let why = cut(why);
        if !self.slot.broke(generation, &why) {
            return;
        }
        self.close_gate();
        let digest = generation.plugin.digest;
        tracing::error!(job = %self.spec.name, generation = generation.number, %digest, "the plugin broke: {why}");
        self.say_error_of(generation, format!("the plugin {} broke: {why}", digest.short()));
    }
}
