//! An environment's names, shared by its processes.

use super::quota::{Permit, Quota};
use super::registry::{Name, Registry, RegistryError};
use lunatic_abi::Limit;
use lunatic_process::Pid;
use std::sync::{Arc, Mutex, MutexGuard};

/// A table of names. An environment created without its own table shares its creator's.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<Registry>);

/// A process's registration under a name, which lasts until this value is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    names: Arc<Names>,
    name: Name,
    pid: Pid,
    number: u64,
    /// The permits from the quota of the environment that registered the name: one for the name,
    /// and one for its bytes.
    _permits: [Permit; 2],
}

/// Identifies a registration: the address of its table, which lives at least as long as the
/// registration, and its number in the table.
pub(crate) type RegistrationId = (usize, u64);

impl Names {
    /// Registers a process and charges the registration to a quota. Returns `None` if the process
    /// already has the name.
    pub(crate) fn register(
        self: &Arc<Names>,
        name: &Name,
        pid: Pid,
        registrar: Pid,
        quota: &Arc<Quota>,
    ) -> Result<Option<Registration>, RegistryError> {
        let mut registry = self.lock();
        if registry.holds(name, pid) {
            return Ok(None);
        }
        self.enter(&mut registry, name, pid, registrar, quota)
            .map(Some)
    }

    /// Registers a new process unless the name is taken. Calls `appear` before the name can be
    /// looked up.
    pub(crate) fn register_new(
        self: &Arc<Names>,
        name: &Name,
        pid: Pid,
        registrar: Pid,
        quota: &Arc<Quota>,
        appear: impl FnOnce(),
    ) -> Result<Option<Registration>, RegistryError> {
        let mut registry = self.lock();
        if let Ok(holder) = registry.lookup(name.text(), "*") {
            return Err(RegistryError::Taken(name.text().to_string(), holder));
        }
        let registration = self.enter(&mut registry, name, pid, registrar, quota)?;
        // The table is still locked, so any process that looks up the name can already send
        // messages to the new process.
        appear();
        Ok(Some(registration))
    }

    fn enter(
        self: &Arc<Names>,
        registry: &mut Registry,
        name: &Name,
        pid: Pid,
        registrar: Pid,
        quota: &Arc<Quota>,
    ) -> Result<Registration, RegistryError> {
        let permit = quota
            .permit(Limit::Names, 1)
            .map_err(RegistryError::Limit)?;
        let bytes = quota
            .permit(Limit::TotalHostMemory, name.size())
            .map_err(RegistryError::Limit)?;
        let number = registry.register(name, pid, registrar)?;
        Ok(Registration {
            names: self.clone(),
            name: name.clone(),
            pid,
            number,
            _permits: [permit, bytes],
        })
    }

    /// Returns the id of a process's registration under a name.
    pub(crate) fn registration(self: &Arc<Names>, name: &Name, pid: Pid) -> Option<RegistrationId> {
        let number = self.lock().number(name, pid)?;
        Some((Arc::as_ptr(self) as usize, number))
    }

    /// Returns the process that has a name, if `caller` may revoke the name.
    pub(crate) fn holder(&self, name: &Name, caller: Pid) -> Result<Pid, RegistryError> {
        self.lock().holder(name, caller)
    }

    /// Finds the process registered under a name with the highest version that satisfies the
    /// requirement.
    pub(crate) fn lookup(&self, name: &str, query: &str) -> Result<Pid, RegistryError> {
        self.lock().lookup(name, query)
    }

    /// Finds the process most recently registered under a name with a version that satisfies the
    /// requirement.
    pub(crate) fn newest(&self, name: &str, query: &str) -> Result<Pid, RegistryError> {
        self.lock().newest(name, query)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl Registration {
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn id(&self) -> RegistrationId {
        (Arc::as_ptr(&self.names) as usize, self.number)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name, self.pid);
    }
}
