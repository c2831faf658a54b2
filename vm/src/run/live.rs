//! A module instance driven by the host.
//!
//! The host closure passed to [`Environment::drive`](crate::Environment::drive) receives a
//! [`Live`]. It calls exported functions one after another, and reads and writes the guest's memory
//! in between. Each call may use the full compute that the environment allows, and can have its own
//! time limit.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the host drives this instance, and addresses are checked as in `Call`"
)]

use super::instance::Instance;
use super::store::{instructions_used, set_compute};
use crate::engine::Code;
use crate::guest::Guest;
use crate::machine::Process;
use crate::module::EntryError;
use async_io::Timer;
use futures_lite::FutureExt;
use lunatic_abi::Limit;
use lunatic_process::{Exit, LimitReached};
use std::time::Duration;
use wasmtime::{Extern, Memory, Val};

/// A running module instance, controlled by the host.
pub struct Live {
    instance: Instance,
    /// Set by the call that ended the guest. The guest's memory may then be in any state, and the
    /// guest is not called again.
    ended: Option<Exit>,
    /// Set once the memory has been looked up.
    memory: Option<Memory>,
}

/// Why a call did not return.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The function does not exist or takes different parameters.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The guest ended during this call or an earlier one.
    #[error("the guest {0}")]
    Ended(Exit),
}

/// The requested bytes are not all inside the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {length} bytes at {address} are not all inside the guest's memory of {size} bytes")]
pub struct OutOfBounds {
    /// The address of the bytes.
    pub address: u32,
    /// The number of bytes requested.
    pub length: usize,
    /// The size of the memory in bytes, or 0 if the guest does not export a memory.
    pub size: usize,
}

impl CallError {
    /// Returns the process's exit, for a closure that gives up because of this error.
    pub fn into_exit(self) -> Exit {
        match self {
            CallError::Ended(exit) => exit,
            CallError::Entry(error) => Exit::Fault(error.to_string().into()),
        }
    }
}

impl Live {
    pub(super) fn new(instance: Instance) -> Live {
        Live {
            instance,
            ended: None,
            memory: None,
        }
    }

    /// Returns the instance, unless the guest has ended.
    pub(super) fn into_instance(self) -> Option<Instance> {
        self.ended.is_none().then_some(self.instance)
    }

    /// Returns the process.
    pub fn process(&self) -> &Process {
        self.instance.guest().process()
    }

    /// Calls an exported function and returns its results. Each call may compute as much as the
    /// environment allows.
    ///
    /// Dropping the future ends the guest, because it cannot be called again after an interrupted
    /// call.
    ///
    /// # Errors
    ///
    /// After [`CallError::Entry`], the guest is unchanged. After [`CallError::Ended`], all further
    /// calls fail in the same way.
    pub async fn call(
        &mut self,
        function: &str,
        parameters: &[Val],
    ) -> Result<Vec<Val>, CallError> {
        if let Some(exit) = &self.ended {
            return Err(CallError::Ended(exit.clone()));
        }
        self.instance
            .guest()
            .module()
            .expect("the guest is a module")
            .check_entry(function, parameters)?;
        if self.instance.kind().code() == Code::Metered {
            let units = self
                .instance
                .guest()
                .environment()
                .limits()
                .get(Limit::Compute);
            set_compute(self.instance.store(), units);
        }
        // `ended` stays set if the future is dropped.
        self.ended = Some(Exit::Killed);
        match self.instance.call(function, parameters).await {
            Ok(results) => {
                self.ended = None;
                Ok(results)
            }
            Err(exit) => {
                self.ended = Some(exit.clone());
                Err(CallError::Ended(exit))
            }
        }
    }

    /// Like [`Live::call`], but ends the guest if the call takes longer than `time`.
    ///
    /// # Errors
    ///
    /// The same as for [`Live::call`]. A call that takes too long reaches [`Limit::Time`].
    pub async fn call_within(
        &mut self,
        time: Duration,
        function: &str,
        parameters: &[Val],
    ) -> Result<Vec<Val>, CallError> {
        let allowed = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let over = Exit::Limit(LimitReached {
            limit: Limit::Time,
            allowed,
            wanted: None,
        });
        let time_is_over = async {
            Timer::after(time).await;
            None
        };
        let done = async { Some(self.call(function, parameters).await) };
        match done.or(time_is_over).await {
            Some(result) => result,
            None => {
                self.ended = Some(over.clone());
                Err(CallError::Ended(over))
            }
        }
    }

    /// Returns the number of instructions that the last call executed. Returns `None` if the
    /// environment does not limit compute, because instructions are not counted in that case. A
    /// unit of [`Limit::Compute`] is 100,000 instructions.
    pub fn instructions_used(&mut self) -> Option<u64> {
        match self.instance.kind().code() {
            Code::Plain => None,
            Code::Metered => instructions_used(self.instance.store()),
        }
    }

    /// Returns the size of the guest's memory in bytes, or 0 if the guest does not export a memory.
    pub fn memory_size(&mut self) -> usize {
        self.memory()
            .map_or(0, |memory| memory.data_size(self.instance.store()))
    }

    /// Copies bytes out of the guest's memory.
    ///
    /// # Errors
    ///
    /// Fails if any of the bytes are outside the memory.
    pub fn read(&mut self, address: u32, length: usize) -> Result<Vec<u8>, OutOfBounds> {
        let Some(memory) = self.memory() else {
            return Err(OutOfBounds {
                address,
                length,
                size: 0,
            });
        };
        let bytes = memory.data(self.instance.store());
        let range = address as usize..(address as usize).saturating_add(length);
        bytes.get(range).map(<[u8]>::to_vec).ok_or(OutOfBounds {
            address,
            length,
            size: bytes.len(),
        })
    }

    /// Copies bytes into the guest's memory.
    ///
    /// # Errors
    ///
    /// Fails, without writing anything, if any of the bytes are outside the memory.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let error = |size| OutOfBounds {
            address,
            length: bytes.len(),
            size,
        };
        let Some(memory) = self.memory() else {
            return Err(error(0));
        };
        let all = memory.data_mut(self.instance.store());
        let size = all.len();
        let range = address as usize..(address as usize).saturating_add(bytes.len());
        all.get_mut(range)
            .ok_or(error(size))?
            .copy_from_slice(bytes);
        Ok(())
    }

    /// Grows the guest's memory to at least `size` bytes. Returns `false` if the environment does
    /// not allow it.
    pub async fn grow_memory(&mut self, size: usize) -> bool {
        let Some(memory) = self.memory() else {
            return false;
        };
        let missing = size.saturating_sub(memory.data_size(self.instance.store())) as u64;
        let pages = missing.div_ceil(memory.page_size(self.instance.store()));
        pages == 0
            || memory
                .grow_async(self.instance.store(), pages)
                .await
                .is_ok()
    }

    /// Returns the host's state for the guest, which can carry the host's own values; see
    /// [`Guest::extension`].
    pub fn guest(&mut self) -> &mut Guest {
        self.instance.store().data_mut()
    }

    fn memory(&mut self) -> Option<Memory> {
        if self.memory.is_none() {
            let exports = self.instance.exports();
            self.memory = exports
                .get_export(self.instance.store(), "memory")
                .and_then(Extern::into_memory);
        }
        self.memory
    }
}
