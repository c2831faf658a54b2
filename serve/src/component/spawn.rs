//! Spawns instances.

use crate::kill_on_drop::KillOnDrop;
use crate::{Failure, Version};
use lunatic_vm::{Component, Exit, LiveComponent, Process};
use std::pin::Pin;
use std::sync::Arc;

/// What an instance does over its lifetime.
type Driven<'a> = Pin<Box<dyn Future<Output = Exit> + Send + 'a>>;

/// Spawns an instance.
///
/// A version's first instance may have to wait for its code to be compiled, which happens on a
/// thread where it does not delay anything else.
pub(super) async fn spawn<F>(
    version: &Arc<Version>,
    component: &Component,
    drive: F,
) -> Result<Process, Failure>
where
    F: for<'a> FnOnce(&'a mut LiveComponent) -> Driven<'a> + Send + 'static,
{
    let instances = version.instances();
    let environment = version.environment().clone();
    let (component, name) = (component.clone(), version.name().clone());
    let spawn = move || environment.drive_component(&component, name.as_str(), drive);
    let spawned = if instances.is_compiled() {
        spawn()
    } else {
        let spawned = tokio::task::spawn_blocking(move || spawn().map(KillOnDrop::new)).await;
        let spawned = spawned.map_err(|error| Failure::Unusable(error.to_string()))?;
        instances.set_compiled();
        spawned.map(KillOnDrop::release)
    };
    spawned.map_err(Failure::of_spawn)
}
