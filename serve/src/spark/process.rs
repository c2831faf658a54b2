//! Sparks' processes.

use super::comm::CommPipes;
use super::command;
use super::state::{SparkState, SpawnOptions};
use crate::functions::WeakFunctions;
use crate::{Spark, Version};
use lunatic_vm::{Process, SpawnError};
use std::sync::Arc;

/// Starts a process for a version. `pipes` is the spark's side of the comm to its runner, and
/// `functions` are the functions that the spark itself can run.
pub(super) fn start(
    version: &Arc<Version>,
    spark: &Spark,
    functions: WeakFunctions,
    pipes: CommPipes,
    options: SpawnOptions,
) -> Result<Process, SpawnError> {
    let (entry_point, is_command) = (spark.entry_point(), spark.is_command());
    let (owner, metrics) = (version.clone(), version.metrics().clone());
    let environment = version.environment();
    let process = environment.drive(spark.module(), version.name().as_str(), move |live| {
        Box::pin(async move {
            let exit = if is_command {
                command::run(live, entry_point, pipes).await
            } else {
                *live.guest().extension() = SparkState::new(owner, functions, pipes, options);
                entry_point.run(live).await
            };
            metrics.had_memory(live.memory_size());
            metrics.computed(live.instructions_used());
            exit
        })
    })?;
    if let Some(request) = options.request {
        version
            .log()
            .works_for(process.pid(), version.number(), request);
    }
    Ok(process)
}
