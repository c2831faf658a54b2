//! Looks up what a guest names by an id.

use super::call::Call;
use super::failure::Failure;
use super::kinds::{ConfigId, EnvironmentId, ModuleId};
use crate::environment::Config;
use crate::machine::Environment;
use crate::module::Module;
use lunatic_abi::OWN;
use std::net::SocketAddr;

impl Call<'_> {
    /// Returns a module by its id, or the caller's own.
    pub(crate) fn module(&mut self, id: ModuleId) -> Result<Module, Failure> {
        if id.0 == OWN {
            return Ok(self.own_module().clone());
        }
        let modules = &self.guest().handles().modules;
        modules
            .get(id.0)
            .cloned()
            .ok_or_else(|| unknown("module", id.0))
    }

    /// Returns the module that the caller is an instance of.
    pub(crate) fn own_module(&mut self) -> &Module {
        self.guest()
            .module()
            .expect("the rows are linked into core modules only")
    }

    /// Returns a configuration by its id.
    pub(crate) fn config(&mut self, id: ConfigId) -> Result<&mut Config, Failure> {
        let configs = &mut self.guest().handles().configs;
        configs
            .get_mut(id.0)
            .ok_or_else(|| unknown("configuration", id.0))
    }

    /// Returns an environment by its id, or the caller's own.
    pub(crate) fn environment(&mut self, id: EnvironmentId) -> Result<Environment, Failure> {
        if id.0 == OWN {
            return Ok(self.guest().environment().clone());
        }
        let environments = &self.guest().handles().environments;
        environments
            .get(id.0)
            .cloned()
            .ok_or_else(|| unknown("environment", id.0))
    }

    /// Keeps addresses for the guest and returns their id.
    pub(crate) fn keep_addresses(&mut self, addresses: Vec<SocketAddr>) -> Result<u64, Failure> {
        let guest = self.guest();
        let results = guest.handles().addresses.len();
        guest.room_for(results, "results of look-ups")?;
        Ok(guest.handles().addresses.insert(addresses.into_iter()))
    }
}

/// Returns the trap of a call with an id that names nothing.
pub(crate) fn unknown(what: &str, id: u64) -> Failure {
    Failure::trap(format!("there is no {what} {id}"))
}
