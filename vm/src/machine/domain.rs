//! The protection domain behind an environment.

use super::program::Program;
use crate::environment::{Config, Grants, Journal, Limits, Names, Quota, WasiTemplate};
use std::sync::Arc;

/// The part of an environment that its processes refer to: their rights and limits, what is
/// counted, and what they share with other environments. A domain spawns nothing and has no
/// reference to the machine; an [`Environment`](crate::Environment) has one.
pub(crate) struct Domain {
    number: u64,
    config: Config,
    wasi: WasiTemplate,
    names: Arc<Names>,
    quota: Arc<Quota>,
    program: Arc<Program>,
}

impl Domain {
    /// Creates the domain of an environment that the host holds, which is the outermost environment
    /// of a new program.
    pub(super) fn outermost(number: u64, config: Config) -> Domain {
        let program = Arc::new(Program::new(number, &config));
        Domain::new(number, config, None, program, Arc::default())
    }

    /// Creates a domain inside this domain. The new domain has at most this domain's rights, and
    /// has its own names or shares this domain's names.
    pub(super) fn inner(&self, number: u64, mut config: Config, has_own_names: bool) -> Domain {
        config.restrict_to(&self.config);
        let names = if has_own_names {
            Arc::default()
        } else {
            self.names.clone()
        };
        let (outer, program) = (Some(self.quota.clone()), self.program.clone());
        Domain::new(number, config, outer, program, names)
    }

    fn new(
        number: u64,
        config: Config,
        outer: Option<Arc<Quota>>,
        program: Arc<Program>,
        names: Arc<Names>,
    ) -> Domain {
        let quota = Arc::new(Quota::new(config.limits, outer));
        let wasi = WasiTemplate::new(&config, number, &quota);
        Domain {
            number,
            config,
            wasi,
            names,
            quota,
            program,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
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

    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.program
    }
}
