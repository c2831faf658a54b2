//! An environment is where processes are spawned: it grants them rights and bounds, and keeps their names.

use crate::module::{Module, ThisModule};
use crate::{Config, LunaticError, host};
use lunatic_abi::{Errno, OWN};
use std::rc::Rc;

/// A set of rights and bounds in which processes run, with names of its own for them.
///
/// What a process spawned there may do was said in the [`Config`]; it is never more than the process may that made the
/// environment. The environment lives on while one of its processes does.
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
    handle: Rc<Handle>,
}

/// An environment as the machine knows it. Modules share it: they are spawned into it when the `Environment` is gone.
#[derive(Debug)]
pub(crate) struct Handle {
    id: u64,
}

impl Handle {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.id == OWN {
            return;
        }
        // SAFETY: the id was given by `environment::create`, and nobody has this handle any more.
        unsafe { host::environment::drop(self.id) };
    }
}

impl Environment {
    /// Makes an environment.
    ///
    /// # Errors
    ///
    /// Where the configuration allows functions of which this process has none, or where it may not make environments.
    ///
    /// # Traps
    ///
    /// Where the configuration grants a directory that this process does not have.
    pub fn new(config: Config) -> Result<Self, LunaticError> {
        config.hand_over(|config| {
            let mut id = 0;
            // SAFETY: the address is that of a variable.
            let result = unsafe { host::environment::create(config, &mut id) };
            LunaticError::check(result, id).map(Self::from_id)
        })
    }

    pub(crate) fn own() -> Self {
        Self::from_id(OWN)
    }

    fn from_id(id: u64) -> Self {
        Self {
            handle: Rc::new(Handle { id }),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.handle.id
    }

    /// Compiles a module, to be spawned in this environment. The process waits; others go on.
    ///
    /// # Errors
    ///
    /// Where the bytes are no module that the machine accepts, or where this process may not compile.
    pub fn add_module(&mut self, bytes: &[u8]) -> Result<Module, LunaticError> {
        let mut id = 0;
        // SAFETY: the address comes with the length of its slice, and the last is that of a variable.
        let result = unsafe { host::process::compile_module(bytes.as_ptr(), bytes.len(), &mut id) };
        if result == -1 {
            return Err(LunaticError::new(
                Errno::NotGranted,
                "this environment does not let its processes compile modules",
            ));
        }
        let id = LunaticError::check(result, id)?;
        Ok(Module::new(Rc::clone(&self.handle), id))
    }

    /// Takes the module that this process runs, to be spawned in this environment: with functions and closures, since the
    /// program is the same.
    ///
    /// # Errors
    ///
    /// None today: nothing is compiled again.
    pub fn add_this_module(&mut self) -> Result<ThisModule, LunaticError> {
        Ok(ThisModule::new(Rc::clone(&self.handle)))
    }
}
