//! Looks up what a guest refers to by id.

use super::call::Call;
use super::failure::{Failure, HostError};
use super::handles::HeldConfig;
use super::kinds::{ConfigId, EnvironmentId, ModuleId};
use crate::environment::Config;
use crate::machine::Environment;
use crate::module::Module;
use lunatic_abi::OWN;
use std::net::SocketAddr;

impl Call<'_> {
    /// Returns a module by its id, or the caller's own module.
    pub(crate) fn module(&mut self, id: ModuleId) -> Result<Module, Failure> {
        if id.0 == OWN {
            return Ok(self.own_module().clone());
        }
        self.guest().handles().modules.get(id.0).cloned()
    }

    /// Returns the module that the caller is an instance of.
    pub(crate) fn own_module(&mut self) -> &Module {
        self.guest()
            .module()
            .expect("these functions are linked only into core modules")
    }

    /// Returns a configuration by its id.
    pub(crate) fn config(&mut self, id: ConfigId) -> Result<&mut Config, Failure> {
        let held = self.guest().handles().configs.get_mut(id.0)?;
        Ok(&mut held.config)
    }

    /// Charges the caller for a string of `bytes` bytes that is added to a configuration.
    pub(crate) fn charge_config(&mut self, id: ConfigId, bytes: usize) -> Result<(), Failure> {
        let held = self.guest().handles().configs.get_mut(id.0)?;
        held.charge
            .grow(Config::size_of_text(bytes))
            .map_err(Failure::limit)
    }

    /// Stores a configuration for the guest and returns its id.
    pub(crate) fn keep_config(&mut self, config: Config) -> Result<u64, HostError> {
        let guest = self.guest();
        let configs = guest.handles().configs.len();
        guest.check_room(configs, "configurations")?;
        let charge = guest.charge(config.size())?;
        let held = HeldConfig { config, charge };
        Ok(guest.handles().configs.insert(held))
    }

    /// Returns an environment by its id, or the caller's own environment.
    pub(crate) fn environment(&mut self, id: EnvironmentId) -> Result<Environment, Failure> {
        if id.0 == OWN {
            return Ok(self.guest().environment().clone());
        }
        self.guest().handles().environments.get(id.0).cloned()
    }

    /// Stores addresses for the guest and returns their id.
    pub(crate) fn keep_addresses(&mut self, addresses: Vec<SocketAddr>) -> Result<u64, Failure> {
        let guest = self.guest();
        let results = guest.handles().addresses.len();
        guest.room_for(results, "lookup results")?;
        Ok(guest.handles().addresses.insert(addresses.into_iter()))
    }
}
