//! The protection domain behind an environment.

use super::program::Program;
use crate::environment::{
    Charge, Config, Descriptors, Grants, HostMemory, Journal, Limits, Names, Quota, WasiTemplate,
};
use std::sync::Arc;

/// The part of an environment that its processes refer to: their rights, limits and usage, and what
/// they share with other environments. Unlike an [`Environment`](crate::Environment), a domain does
/// not hold a reference to the machine and cannot spawn.
pub(crate) struct Domain {
    number: u64,
    id: u64,
    config: Config,
    wasi: WasiTemplate,
    names: Arc<Names>,
    quota: Arc<Quota>,
    /// The account for memory that the host holds for the environment, excluding its processes.
    host_memory: HostMemory,
    program: Arc<Program>,
    /// The size, in host memory, of the strings in a process's WASI context, in bytes.
    context_size: u64,
    /// The charge for the domain itself, if a guest created it.
    charge: Option<Charge>,
}

impl Domain {
    /// Creates the domain of a new program's outermost environment.
    pub(super) fn outermost(number: u64, config: Config, descriptors: Arc<Descriptors>) -> Domain {
        let program = Arc::new(Program::new(number, &config));
        let quota = Quota::of_program(config.limits, descriptors);
        Domain::new(number, config, quota, program, Arc::default())
    }

    /// Creates the outermost domain of a new program that has the names of this one.
    pub(super) fn beside(
        &self,
        number: u64,
        config: Config,
        descriptors: Arc<Descriptors>,
    ) -> Domain {
        let outermost = Domain::outermost(number, config, descriptors);
        Domain {
            names: self.names.clone(),
            id: self.id,
            ..outermost
        }
    }

    /// Creates a domain inside this one. The new domain has at most this domain's rights, and
    /// either has its own names or shares this domain's.
    pub(super) fn inner(&self, number: u64, mut config: Config, has_own_names: bool) -> Domain {
        config.restrict_to(&self.config);
        let names = if has_own_names {
            Arc::default()
        } else {
            self.names.clone()
        };
        let quota = Quota::new(config.limits, Some(self.quota.clone()));
        let inner = Domain::new(number, config, quota, self.program.clone(), names);
        let id = if has_own_names { number } else { self.id };
        Domain { id, ..inner }
    }

    fn new(
        number: u64,
        config: Config,
        quota: Quota,
        program: Arc<Program>,
        names: Arc<Names>,
    ) -> Domain {
        let quota = Arc::new(quota);
        let wasi = WasiTemplate::new(&config, number, &quota);
        Domain {
            number,
            id: number,
            context_size: config.size(),
            config,
            wasi,
            names,
            host_memory: HostMemory::of_environment(&quota),
            quota,
            program,
            charge: None,
        }
    }

    /// Charges a guest for the domain for as long as the domain exists.
    pub(super) fn is_paid_by(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the number that guests see. Only an environment with its own names has its own
    /// number: as in the published runtime, a process spawned with a configuration stays in the
    /// caller's environment.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub(crate) fn grants(&self) -> &Grants {
        &self.config.grants
    }

    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.config.journal.as_ref()
    }

    pub(crate) fn wasi(&self) -> &WasiTemplate {
        &self.wasi
    }

    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.names
    }

    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    pub(crate) fn host_memory(&self) -> &HostMemory {
        &self.host_memory
    }

    pub(crate) fn context_size(&self) -> u64 {
        self.context_size
    }

    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.program
    }
}
