//! Compiling what is to serve, told to whoever waits for it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::domain::digest::Digest;
use crate::plugin::compile::CompileError;
use crate::plugin::generation::Plugin;

use super::Loader;

/// A compile that takes longer is told in the log.
const LONG: Duration = Duration::from_secs(1);

impl Loader {
    /// Compiles, and says so: in status at once, in the log where it takes its
    /// time.
    pub(super) async fn compiled(&self, digest: Digest, bytes: &Arc<Vec<u8>>) -> Result<Plugin, CompileError> {
        let _shown = self.slot.compiling(digest);
        let mut compiled = pin!(self.compiler.compile(Arc::clone(bytes), self.job.limits.fuel.is_some()));
        if let Ok(compiled) = timeout(LONG, &mut compiled).await {
            return compiled;
        }
        let (job, serves) = (&self.job.name, self.slot.current().is_some());
        let meanwhile = if serves { "what serves goes on" } else { "nothing serves yet" };
        tracing::info!(%job, %digest, bytes = bytes.len(), "compiling the plugin; {meanwhile}");
        let began = Instant::now();
        let compiled = compiled.await;
        tracing::info!(%job, %digest, took = ?LONG + began.elapsed(), ok = compiled.is_ok(), "compiled the plugin");
        compiled
    }
}
