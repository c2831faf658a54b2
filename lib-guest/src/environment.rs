//! Environments for processes. An environment grants rights, sets limits, and holds the names of
//! its processes.

use crate::config::Config;
use crate::error::LunaticError;
use crate::host;
use lunatic_abi::OWN;
use std::rc::Rc;

/// A set of rights and limits for processes, and a registry of their names.
///
/// The [`Config`] determines what processes spawned in the environment may do. They can never do
/// more than the process that created the environment. An environment lives on while any of its
/// processes is alive.
///
/// # Example
///
/// ```no_run
/// use lunatic::{Config, Environment, Mailbox};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<()>) {
///     // 17 pages of memory, and ten units of compute.
///     let config = Config::new(1_200_000, Some(10));
///     let mut environment = Environment::new(config).unwrap();
///     let module = environment.add_this_module().unwrap();
///     let (_, mailbox) = module.spawn_link(mailbox, |_: Mailbox<()>| loop {}).unwrap();
///     assert!(mailbox.receive().is_signal());
/// }
/// ```
#[derive(Debug)]
pub struct Environment {
    // Modules share the id, so that their functions can be spawned after the `Environment` has been
    // dropped.
    id: Rc<Id>,
}

/// The id of an environment. Dropping it releases the environment.
#[derive(Debug)]
struct Id(u64);

impl Drop for Id {
    fn drop(&mut self) {
        if self.0 != OWN {
            host::environment::drop(self.0);
        }
    }
}

impl Environment {
    /// Creates an environment.
    ///
    /// # Errors
    ///
    /// Fails if this process may not call any of the functions that the configuration allows, or
    /// may not create environments.
    ///
    /// # Traps
    ///
    /// Traps if the configuration grants a directory that this process cannot access.
    pub fn new(config: Config) -> Result<Self, LunaticError> {
        config.hand_over(|config| {
            LunaticError::or_value(|id| host::environment::create(config, id)).map(Self::from_id)
        })
    }

    /// Returns the environment of the current process.
    pub(crate) fn own() -> Self {
        Self::from_id(OWN)
    }

    fn from_id(id: u64) -> Self {
        Self {
            id: Rc::new(Id(id)),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.0
    }

    /// Returns another handle to this environment.
    pub(crate) fn share(&self) -> Self {
        Self {
            id: Rc::clone(&self.id),
        }
    }
}
