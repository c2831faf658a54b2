//! Modules in environments, and spawning processes from them.

pub(crate) mod param;

use crate::environment::Environment;
use crate::error::LunaticError;
use crate::host;
use crate::mailbox::{LinkMailbox, Mailbox, TransformMailbox};
use crate::process::builder::{Builder, Linked};
use crate::process::handle::Process;
use lunatic_abi::Errno;
use param::Param;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The modules of an environment.
impl Environment {
    /// Compiles a module whose functions can then be spawned in this environment. Only the calling
    /// process waits for the compilation.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are not a module that the machine accepts, or if this process may not
    /// compile modules.
    pub fn add_module(&mut self, bytes: &[u8]) -> Result<Module, LunaticError> {
        let mut id = 0;
        let result = host::process::compile_module(bytes, &mut id);
        if result == -1 {
            return Err(LunaticError::new(
                Errno::NotGranted,
                "this environment does not let its processes compile modules",
            ));
        }
        Ok(Module {
            id: LunaticError::check(result, id)?,
            environment: self.share(),
        })
    }

    /// Adds the current process's module, whose functions and closures can then be spawned in this
    /// environment.
    ///
    /// # Errors
    ///
    /// Never fails at present, because nothing is compiled.
    pub fn add_this_module(&mut self) -> Result<ThisModule, LunaticError> {
        Ok(ThisModule {
            environment: self.share(),
        })
    }
}

/// A module compiled for an [`Environment`], whose exported functions can be spawned there.
///
/// # Example
///
/// ```no_run
/// use lunatic::{Config, Environment, Mailbox, Param};
///
/// #[lunatic::main]
/// fn main(mailbox: Mailbox<()>) {
///     let bytes = std::fs::read("plugin.wasm").unwrap();
///     let mut environment = Environment::new(Config::new(10_000_000, Some(1_000))).unwrap();
///     let plugin = environment.add_module(&bytes).unwrap();
///     let (_, mailbox) = plugin
///         .spawn_link::<(), _, _>(mailbox, "run", &[Param::I32(7), Param::F64(0.5)])
///         .unwrap();
///     if let Some(signal) = mailbox.receive().signal() {
///         println!("the plugin failed: {signal}");
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Module {
    environment: Environment,
    id: u64,
}

impl Module {
    fn builder(&self) -> Builder<'_> {
        Builder::new()
            .environment(&self.environment)
            .module(self.id)
    }

    /// Spawns a process that runs an exported function with the given parameters.
    ///
    /// The caller chooses the message type of the new process; the choice is not checked.
    ///
    /// # Errors
    ///
    /// Fails if the function does not exist, if it takes different parameters, if an import is
    /// missing, or if a limit is reached.
    pub fn spawn<T>(&self, function: &str, params: &[Param]) -> Result<Process<T>, LunaticError> {
        self.builder().spawn_export(function, &to_bytes(params))
    }

    /// Like [`spawn`](Self::spawn), but links the new process to the current process. If the new
    /// process fails, the current process receives a signal.
    pub fn spawn_link<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: &str,
        params: &[Param],
    ) -> Linked<T, LinkMailbox<P>> {
        self.builder()
            .linked(mailbox.catch_link_panic(), |builder| {
                builder.spawn_export(function, &to_bytes(params))
            })
    }

    /// Like [`spawn`](Self::spawn), but links the new process to the current process. If either
    /// fails, the other dies too.
    pub fn spawn_link_unwrap<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: &str,
        params: &[Param],
    ) -> Linked<T, Mailbox<P>> {
        self.builder()
            .linked(mailbox.panic_if_link_panics(), |builder| {
                builder.spawn_export(function, &to_bytes(params))
            })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        host::process::drop_module(self.id);
    }
}

fn to_bytes(params: &[Param]) -> Vec<u8> {
    params.iter().flat_map(|param| param.to_bytes()).collect()
}

/// The current process's module, in an [`Environment`]. It has the same spawn functions as
/// [`process`](crate::process), but they spawn processes with the rights and limits of that
/// environment.
///
/// A process spawned with a value receives the value as a message, so its environment must allow
/// `lunatic::message::`. A process spawned without a value doesn't call any host functions before
/// its own function runs.
#[derive(Debug)]
pub struct ThisModule {
    environment: Environment,
}

impl ThisModule {
    fn builder(&self) -> Builder<'_> {
        Builder::new().environment(&self.environment)
    }

    /// Spawns a process like [`process::spawn`](crate::process::spawn).
    pub fn spawn<T>(&self, function: fn(Mailbox<T>)) -> Result<Process<T>, LunaticError> {
        self.builder().spawn(function)
    }

    /// Spawns a process like [`process::spawn_with`](crate::process::spawn_with).
    pub fn spawn_with<C, T>(
        &self,
        context: C,
        function: fn(C, Mailbox<T>),
    ) -> Result<Process<T>, LunaticError>
    where
        C: Serialize + DeserializeOwned,
    {
        self.builder().spawn_with(context, function)
    }

    /// Spawns a process like [`process::spawn_link`](crate::process::spawn_link).
    pub fn spawn_link<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: fn(Mailbox<T>),
    ) -> Linked<T, LinkMailbox<P>> {
        self.builder()
            .linked(mailbox.catch_link_panic(), |builder| {
                builder.spawn(function)
            })
    }

    /// Spawns a process like [`process::spawn_link_with`](crate::process::spawn_link_with).
    pub fn spawn_link_with<C, T, P, M>(
        &self,
        mailbox: M,
        context: C,
        function: fn(C, Mailbox<T>),
    ) -> Linked<T, LinkMailbox<P>>
    where
        C: Serialize + DeserializeOwned,
        M: TransformMailbox<P>,
    {
        self.builder()
            .linked(mailbox.catch_link_panic(), |builder| {
                builder.spawn_with(context, function)
            })
    }

    /// Spawns a process like [`process::spawn_link_unwrap`](crate::process::spawn_link_unwrap).
    pub fn spawn_link_unwrap<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: fn(Mailbox<T>),
    ) -> Linked<T, Mailbox<P>> {
        self.builder()
            .linked(mailbox.panic_if_link_panics(), |builder| {
                builder.spawn(function)
            })
    }

    /// Spawns a process like
    /// [`process::spawn_link_unwrap_with`](crate::process::spawn_link_unwrap_with).
    pub fn spawn_link_unwrap_with<C, T, P, M>(
        &self,
        mailbox: M,
        context: C,
        function: fn(C, Mailbox<T>),
    ) -> Linked<T, Mailbox<P>>
    where
        C: Serialize + DeserializeOwned,
        M: TransformMailbox<P>,
    {
        self.builder()
            .linked(mailbox.panic_if_link_panics(), |builder| {
                builder.spawn_with(context, function)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_one_after_another() {
        let bytes = to_bytes(&[Param::I32(1), Param::V128(2)]);
        assert_eq!(bytes.len(), 34);
        assert_eq!((bytes[0], bytes[17]), (0x7f, 0x7b));
        assert!(to_bytes(&[]).is_empty());
    }
}
