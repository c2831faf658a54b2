//! WASI preview 1 for the processes of an environment.
//!
//! The environment has one template: arguments, variables, open directories, standard streams. A
//! process gets a context made from the template on its first WASI call; a process that never makes
//! such a call pays nothing, and no process costs a descriptor.
//!
//! A process has at most [`Limit::Files`] files open, an environment writes at most
//! [`Limit::Output`] bytes to its standard streams, and no call makes the host allocate more memory
//! than the guest has itself. Disk space is not counted: a process that may write to a directory
//! may fill its file system, up to the host's own quotas, and gets the host's errors.

mod directory;
mod stdio;

pub(crate) use directory::Preopens;
pub use directory::{Access, PreopenError};
pub use stdio::Stdio;

use super::config::Config;
use super::grants::Grants;
use super::journal::Journal;
use super::quota::Quota;
use crate::console::Stream;
use crate::pipe::{PipeReader, PipeWriter, lock};
use lunatic_abi::Limit;
use lunatic_process::{LimitReached, Pid};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use stdio::{Account, Inlet, Outlet, Writer};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiView};

/// What all contexts of an environment are made from.
pub(crate) struct WasiTemplate {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    files: WasiFilesystemCtx,
    stdin: Stdio<PipeReader>,
    stdout: Stdio<PipeWriter>,
    stderr: Stdio<PipeWriter>,
    journal: Option<Journal>,
    open_files: usize,
    /// The environment that output is charged to.
    environment: u64,
    quota: Arc<Quota>,
    /// Set once it has been logged that no more output is accepted.
    is_logged: Arc<AtomicBool>,
}

/// The part of the environment that a context grants. A module's functions are granted individually
/// when it is linked; a component has all WASI functions, and the contents of the context decide
/// what they can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WasiGrants {
    command_line: bool,
    files: bool,
    sockets: bool,
}

impl WasiGrants {
    /// What a module's context grants. Modules use the machine's own sockets.
    pub(crate) const MODULE: WasiGrants = WasiGrants {
        command_line: true,
        files: true,
        sockets: false,
    };

    /// What a component's context grants in an environment with the given grants.
    pub(crate) fn component(grants: &Grants) -> WasiGrants {
        WasiGrants {
            command_line: grants.allows("wasi:cli"),
            files: grants.allows("wasi:filesystem"),
            sockets: grants.allows("wasi:sockets"),
        }
    }
}

/// The maximum number of random bytes generated at once. Generating more would take longer than a
/// slice.
pub(crate) const MAX_RANDOM: usize = 1 << 20;

/// How many entries of a context's table are not files: the streams, and what one `poll_oneoff`
/// waits for.
const OTHER_ENTRIES: usize = 4096;

/// A process's context.
pub(crate) struct Wasi {
    pub(crate) context: WasiP1Ctx,
    open_files: usize,
    refused: Arc<Mutex<Option<LimitReached>>>,
}

impl WasiTemplate {
    pub(crate) fn new(config: &Config, environment: u64, quota: &Arc<Quota>) -> WasiTemplate {
        let files = usize::try_from(config.limits.get(Limit::Files)).unwrap_or(usize::MAX);
        WasiTemplate {
            arguments: config.arguments.clone(),
            variables: config.variables.clone(),
            files: config.preopens.files(),
            stdin: config.stdin.clone(),
            stdout: config.stdout.clone(),
            stderr: config.stderr.clone(),
            journal: config.journal.clone(),
            open_files: files.saturating_add(config.preopens.len()),
            environment,
            quota: quota.clone(),
            is_logged: Arc::default(),
        }
    }

    /// Creates a context for a process, with its own input and output if it is redirected.
    pub(crate) fn context(
        &self,
        (pid, process): (Pid, &str),
        grants: WasiGrants,
        redirected: Option<(PipeReader, PipeWriter)>,
    ) -> Wasi {
        let refused = Arc::new(Mutex::new(None));
        let account = Account {
            environment: self.environment,
            quota: self.quota.clone(),
            is_logged: self.is_logged.clone(),
            refused: refused.clone(),
        };
        let writer = self.journal.as_ref().map(|journal| Writer {
            journal: journal.clone(),
            pid,
            process: process.into(),
        });
        let mut builder = WasiCtxBuilder::new();
        builder.max_random_size(MAX_RANDOM as u64);
        if grants.command_line {
            builder
                .args(&self.arguments)
                .envs(&self.variables)
                .stdin(Inlet::new(&self.stdin))
                .stdout(Outlet::new(
                    &self.stdout,
                    Stream::Output,
                    writer.clone(),
                    account.clone(),
                ))
                .stderr(Outlet::new(&self.stderr, Stream::Error, writer, account));
        }
        if let Some((input, output)) = redirected {
            builder
                .stdin(Inlet::new(&Stdio::Pipe(input)))
                .stdout(Outlet::uncounted(output));
        }
        if grants.sockets {
            builder.inherit_network().allow_ip_name_lookup(true);
        }
        let mut context = builder.build_p1();
        let view = context.ctx();
        if grants.files {
            *view.ctx.filesystem() = self.files.clone();
        }
        view.table
            .set_max_capacity(self.open_files.saturating_add(OTHER_ENTRIES));
        Wasi {
            context,
            open_files: self.open_files,
            refused,
        }
    }
}

impl Wasi {
    /// Returns the context for a new call.
    pub(crate) fn begin_call(&mut self) -> &mut WasiP1Ctx {
        *lock(&self.refused) = None;
        &mut self.context
    }

    /// Returns the limit that the last call reached.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        *lock(&self.refused)
    }

    /// Whether another file can be opened.
    pub(crate) fn has_room_for_a_file(&mut self) -> bool {
        if self.open_files == usize::MAX {
            return true;
        }
        let table = self.context.ctx().table;
        table
            .iter_mut()
            .filter(|entry| entry.is::<Descriptor>())
            .count()
            < self.open_files
    }
}
