//! A guard that ties a process's lifetime to that of the code waiting for it.

use lunatic_vm::Process;

/// Kills a process when dropped, unless it has been [`release`](KillOnDrop::release)d.
#[derive(Debug)]
pub(crate) struct KillOnDrop(Option<Process>);

impl KillOnDrop {
    pub(crate) fn new(process: Process) -> KillOnDrop {
        KillOnDrop(Some(process))
    }

    pub(crate) fn process(&self) -> &Process {
        self.0
            .as_ref()
            .expect("only `release` takes the process, and it consumes the guard")
    }

    /// Disarms the guard, so that the process keeps running.
    pub(crate) fn release(mut self) -> Process {
        self.0
            .take()
            .expect("only `release` takes the process, and it consumes the guard")
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}
