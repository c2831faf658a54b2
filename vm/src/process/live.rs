//! An instance that the host drives.
//!
//! A [`Live`] is what a host closure gets in [`Environment::drive`](crate::Environment::drive): it calls exported functions
//! one after the other and reads and writes the guest's memory in between. Each call has the full compute and, if it is
//! asked for, time of its own.

use super::run::{instructions_used, set_compute};
use super::shell::Shell;
use super::{Exit, LimitReached, Process};
use crate::engine::Code;
use crate::host::Guest;
use crate::module::EntryError;
use async_io::Timer;
use futures_lite::FutureExt;
use lunatic_abi::Limit;
use std::time::Duration;
use wasmtime::{Extern, Memory, Val};

/// A running instance in the hands of the host.
pub struct Live {
    shell: Shell,
    /// Set by the call that ended the guest: its memory may be in any state, and it is not called again.
    ended: Option<Exit>,
    /// Once it was looked for.
    memory: Option<Memory>,
}

/// Why a call did not return.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such function, or it takes other parameters.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The guest ended in the call, or in one before.
    #[error("the guest {0}")]
    Ended(Exit),
}

/// Bytes outside the guest's memory were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {length} bytes at {address} are not all inside the guest's memory of {size} bytes")]
pub struct OutOfBounds {
    /// Where they were to begin.
    pub address: u32,
    /// How many were asked for.
    pub length: usize,
    /// How large the memory is; 0 where the guest exports none.
    pub size: usize,
}

impl CallError {
    /// Returns what the process ends with if the closure gives up here.
    pub fn into_exit(self) -> Exit {
        match self {
            CallError::Ended(exit) => exit,
            CallError::Entry(error) => Exit::Fault(error.to_string().into()),
        }
    }
}

impl Live {
    pub(super) fn new(shell: Shell) -> Live {
        Live {
            shell,
            ended: None,
            memory: None,
        }
    }

    /// Returns the instance for others, if it is not one that ended.
    pub(super) fn into_shell(self) -> Option<Shell> {
        self.ended.is_none().then_some(self.shell)
    }

    /// Returns the process.
    pub fn process(&self) -> &Process {
        self.shell.guest().process()
    }

    /// Calls an exported function and returns its results. It may compute as much as its environment allows, anew for every
    /// call.
    ///
    /// Dropping the future ends the guest: a call that was left in the middle leaves nothing that could be called again.
    ///
    /// # Errors
    ///
    /// [`CallError::Entry`] leaves the guest as it was. After [`CallError::Ended`] every further call says the same.
    pub async fn call(
        &mut self,
        function: &str,
        parameters: &[Val],
    ) -> Result<Vec<Val>, CallError> {
        if let Some(exit) = &self.ended {
            return Err(CallError::Ended(exit.clone()));
        }
        self.shell
            .guest()
            .module()
            .expect("the instance is a module's")
            .check_entry(function, parameters)?;
        if self.shell.kind().code() == Code::Metered {
            let units = self
                .shell
                .guest()
                .environment()
                .limits()
                .get(Limit::Compute);
            set_compute(self.shell.store(), units);
        }
        // Stays if the future is dropped.
        self.ended = Some(Exit::Killed);
        match self.shell.call(function, parameters).await {
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

    /// Calls as [`Live::call`] does, and ends the guest where the call takes longer than `time`.
    ///
    /// # Errors
    ///
    /// As [`Live::call`]; time that ran out is [`Limit::Time`].
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

    /// Returns how many instructions the last call computed; `None` where the environment does not limit compute, as nobody
    /// counts them then. A unit of [`Limit::Compute`] is 100,000 of them.
    pub fn instructions_used(&mut self) -> Option<u64> {
        match self.shell.kind().code() {
            Code::Plain => None,
            Code::Metered => instructions_used(self.shell.store()),
        }
    }

    /// Returns the size of the guest's memory, in bytes; 0 where it exports none.
    pub fn memory_size(&mut self) -> usize {
        self.memory()
            .map_or(0, |memory| memory.data_size(self.shell.store()))
    }

    /// Copies bytes out of the guest's memory.
    ///
    /// # Errors
    ///
    /// Where they do not all lie in it.
    pub fn read(&mut self, address: u32, length: usize) -> Result<Vec<u8>, OutOfBounds> {
        let Some(memory) = self.memory() else {
            return Err(OutOfBounds {
                address,
                length,
                size: 0,
            });
        };
        let bytes = memory.data(self.shell.store());
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
    /// Where they do not all fit; then nothing is written.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let error = |size| OutOfBounds {
            address,
            length: bytes.len(),
            size,
        };
        let Some(memory) = self.memory() else {
            return Err(error(0));
        };
        let all = memory.data_mut(self.shell.store());
        let size = all.len();
        let range = address as usize..(address as usize).saturating_add(bytes.len());
        all.get_mut(range)
            .ok_or(error(size))?
            .copy_from_slice(bytes);
        Ok(())
    }

    /// Grows the guest's memory so that it has at least so many bytes; `false` where its environment does not let it.
    pub async fn grow_memory(&mut self, size: usize) -> bool {
        let Some(memory) = self.memory() else {
            return false;
        };
        let missing = size.saturating_sub(memory.data_size(self.shell.store())) as u64;
        let pages = missing.div_ceil(memory.page_size(self.shell.store()));
        pages == 0 || memory.grow_async(self.shell.store(), pages).await.is_ok()
    }

    /// Returns what the process carries for the host; see [`Guest::extension`].
    pub fn guest(&mut self) -> &mut Guest {
        self.shell.store().data_mut()
    }

    fn memory(&mut self) -> Option<Memory> {
        if self.memory.is_none() {
            let instance = self.shell.instance();
            self.memory = instance
                .get_export(self.shell.store(), "memory")
                .and_then(Extern::into_memory);
        }
        self.memory
    }
}
