//! A module in an environment: what processes are spawned from.

use crate::environment::Handle;
use crate::mailbox::{LinkMailbox, Mailbox, TransformMailbox};
use crate::process::{Linked, Place, Process, linked};
use crate::tag::Tag;
use crate::{LunaticError, host};
use lunatic_abi::{OWN, parameter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::rc::Rc;

/// A module that was compiled for an [`Environment`](crate::Environment): its exported functions can be spawned there.
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
    environment: Rc<Handle>,
    id: u64,
}

impl Module {
    pub(crate) fn new(environment: Rc<Handle>, id: u64) -> Self {
        Self { environment, id }
    }

    fn place(&self) -> Place {
        Place::Environment {
            environment: self.environment.id(),
            module: self.id,
        }
    }

    /// Spawns an exported function with parameters.
    ///
    /// What type of message the process receives is the caller's claim.
    ///
    /// # Errors
    ///
    /// That there is no such function, that it takes other parameters, that an import is missing, or a limit.
    pub fn spawn<T>(&self, function: &str, params: &[Param]) -> Result<Process<T>, LunaticError> {
        self.place()
            .spawn_export(Tag::NONE, function, &to_bytes(params))
    }

    /// Spawns an exported function as [`spawn`](Self::spawn) does, linked: this process is told of its failure.
    pub fn spawn_link<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: &str,
        params: &[Param],
    ) -> Linked<T, LinkMailbox<P>> {
        let spawn = |tag| self.place().spawn_export(tag, function, &to_bytes(params));
        linked(mailbox.catch_link_panic(), spawn)
    }

    /// Spawns an exported function as [`spawn`](Self::spawn) does, linked: when one of the two fails, the other dies too.
    pub fn spawn_link_unwrap<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: &str,
        params: &[Param],
    ) -> Linked<T, Mailbox<P>> {
        let spawn = |tag| self.place().spawn_export(tag, function, &to_bytes(params));
        linked(mailbox.panic_if_link_panics(), spawn)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the id was given by `compile_module`, and nobody else has it.
        unsafe { host::process::drop_module(self.id) };
    }
}

/// The module that this process runs, in an [`Environment`](crate::Environment): the functions of
/// [`process`](crate::process), with the rights and bounds of that environment.
///
/// A process that is spawned with a value receives it, so its environment must allow `lunatic::message::`. One that is
/// spawned without asks nothing of the machine before its function runs.
#[derive(Debug)]
pub struct ThisModule {
    environment: Rc<Handle>,
}

impl ThisModule {
    pub(crate) fn new(environment: Rc<Handle>) -> Self {
        Self { environment }
    }

    fn place(&self) -> Place {
        Place::Environment {
            environment: self.environment.id(),
            module: OWN,
        }
    }

    /// Spawns a process as [`process::spawn`](crate::process::spawn) does.
    pub fn spawn<T>(&self, function: fn(Mailbox<T>)) -> Result<Process<T>, LunaticError> {
        self.place().spawn(Tag::NONE, function)
    }

    /// Spawns a process as [`process::spawn_with`](crate::process::spawn_with) does.
    pub fn spawn_with<C, T>(
        &self,
        context: C,
        function: fn(C, Mailbox<T>),
    ) -> Result<Process<T>, LunaticError>
    where
        C: Serialize + DeserializeOwned,
    {
        self.place().spawn_with(Tag::NONE, &context, function)
    }

    /// Spawns a process as [`process::spawn_link`](crate::process::spawn_link) does.
    pub fn spawn_link<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: fn(Mailbox<T>),
    ) -> Linked<T, LinkMailbox<P>> {
        linked(mailbox.catch_link_panic(), |tag| {
            self.place().spawn(tag, function)
        })
    }

    /// Spawns a process as [`process::spawn_link_with`](crate::process::spawn_link_with) does.
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
        linked(mailbox.catch_link_panic(), |tag| {
            self.place().spawn_with(tag, &context, function)
        })
    }

    /// Spawns a process as [`process::spawn_link_unwrap`](crate::process::spawn_link_unwrap) does.
    pub fn spawn_link_unwrap<T, P, M: TransformMailbox<P>>(
        &self,
        mailbox: M,
        function: fn(Mailbox<T>),
    ) -> Linked<T, Mailbox<P>> {
        linked(mailbox.panic_if_link_panics(), |tag| {
            self.place().spawn(tag, function)
        })
    }

    /// Spawns a process as [`process::spawn_link_unwrap_with`](crate::process::spawn_link_unwrap_with) does.
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
        linked(mailbox.panic_if_link_panics(), |tag| {
            self.place().spawn_with(tag, &context, function)
        })
    }
}

/// A parameter of an exported function that is spawned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Param {
    /// A 32-bit integer.
    I32(i32),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A 128-bit vector.
    V128(u128),
}

impl Param {
    /// Returns the record that the machine reads: the type, then the value in 16 bytes.
    pub(crate) fn to_bytes(self) -> [u8; parameter::SIZE] {
        let (kind, value) = match self {
            // Integers are extended with their sign.
            Self::I32(value) => (parameter::I32, i128::from(value).cast_unsigned()),
            Self::I64(value) => (parameter::I64, i128::from(value).cast_unsigned()),
            Self::F32(value) => (parameter::F32, u128::from(value.to_bits())),
            Self::F64(value) => (parameter::F64, u128::from(value.to_bits())),
            Self::V128(value) => (parameter::V128, value),
        };
        let mut bytes = [0; parameter::SIZE];
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        bytes
    }
}

fn to_bytes(params: &[Param]) -> Vec<u8> {
    params.iter().flat_map(|param| param.to_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_its_type_and_its_value_in_seventeen_bytes() {
        let check = |param: Param, kind: u8, value: u128| {
            let bytes = param.to_bytes();
            assert_eq!(bytes[0], kind, "{param:?}");
            assert_eq!(bytes[1..], value.to_le_bytes(), "{param:?}");
        };
        check(Param::I32(7), 0x7f, 7);
        check(Param::I32(-1), 0x7f, u128::MAX);
        check(Param::I64(i64::MIN), 0x7e, u128::MAX << 63);
        check(Param::F32(1.0), 0x7d, 0x3f80_0000);
        check(Param::F64(-0.0), 0x7c, 1 << 63);
        check(Param::V128(u128::MAX - 1), 0x7b, u128::MAX - 1);
    }

    #[test]
    fn parameters_stand_one_after_another() {
        let bytes = to_bytes(&[Param::I32(1), Param::V128(2)]);
        assert_eq!(bytes.len(), 34);
        assert_eq!((bytes[0], bytes[17]), (0x7f, 0x7b));
        assert!(to_bytes(&[]).is_empty());
    }
}
