//! WASI for an environment's processes: preview 1 and 0 for modules, and 0.2 for components. The
//! machine implements preview 1 and 0 itself (the functions are in `host/wasi/`). `wasmtime-wasi`
//! implements 0.2.
//!
//! Each environment has one template: arguments, variables, open directories and standard streams.
//! A process gets a context, created from the template, on its first WASI call. A process that
//! never makes one pays nothing, and a context does not take up any descriptors.
//!
//! A process can have at most [`Limit::Files`] files open, an environment's processes can write at
//! most [`Limit::Output`] bytes to their standard streams, and no call makes the host allocate more
//! memory than the guest itself has. Disk space is not counted: a process that may write to a
//! directory can fill the file system up to the host's own quotas, and then gets the host's errors.

pub(crate) mod beneath;
mod directory;
mod errno;
pub(crate) mod file;
pub(crate) mod listing;
pub(crate) mod missing;
mod pace;
mod stdio;
pub(crate) mod table;

pub(crate) use directory::Preopens;
pub use directory::{Access, PreopenError};
pub(crate) use errno::Errno as WasiErrno;
pub(crate) use pace::Pace;
pub use stdio::Stdio;
pub(crate) use stdio::{Inlet, MAX_WRITE, Outlet};

use super::config::Config;
use super::grants::Grants;
use super::journal::Journal;
use super::quota::Quota;
use crate::console::Stream;
use crate::pipe::{PipeReader, PipeWriter, lock};
use lunatic_abi::Limit;
use lunatic_net::reserved;
use lunatic_process::{LimitReached, Pid};
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use stdio::{Account, Writer};
use table::{Descriptor, Table};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView};

/// The template that all of an environment's contexts are created from.
pub(crate) struct WasiTemplate {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    preopens: Preopens,
    /// The granted directories, in the form that components use. Set when the first component's
    /// context is created.
    component_files: OnceLock<WasiFilesystemCtx>,
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
    /// Set once it has been logged that a file was not found because no grant covers it.
    is_file_logged: AtomicBool,
}

/// The maximum number of random bytes generated in one call. Generating more would take longer than
/// a slice.
const MAX_RANDOM: usize = 1 << 20;

/// The maximum number of entries in a component's table other than files, such as streams and
/// pollables.
const OTHER_ENTRIES: usize = 4096;

/// A process's context.
pub(crate) struct Wasi {
    context: Context,
    refused: Arc<Mutex<Option<LimitReached>>>,
}

enum Context {
    Module(Table),
    Component(Box<ComponentContext>),
}

struct ComponentContext {
    context: WasiCtx,
    resources: ResourceTable,
    /// The empty table that replaces `resources` once they are withheld.
    nothing: ResourceTable,
    withheld: Option<LimitReached>,
}

impl WasiTemplate {
    pub(crate) fn new(config: &Config, environment: u64, quota: &Arc<Quota>) -> WasiTemplate {
        let files = usize::try_from(config.limits.get(Limit::Files)).unwrap_or(usize::MAX);
        WasiTemplate {
            arguments: config.arguments.clone(),
            variables: config.variables.clone().into_iter().collect(),
            preopens: config.preopens.clone(),
            component_files: OnceLock::new(),
            stdin: config.stdin.clone(),
            stdout: config.stdout.clone(),
            stderr: config.stderr.clone(),
            journal: config.journal.clone(),
            open_files: files,
            environment,
            quota: quota.clone(),
            is_logged: Arc::default(),
            is_file_logged: AtomicBool::new(false),
        }
    }

    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Creates the context of a module's process. If the process is redirected, the context uses
    /// the process's own input and output. WASI functions are granted individually, when the module
    /// is linked.
    pub(crate) fn module_context(
        &self,
        process: (Pid, &str),
        redirected: Option<(PipeReader, PipeWriter)>,
    ) -> Wasi {
        let (streams, refused) = self.streams(process, redirected);
        let [output, error] = streams.outputs.map(Descriptor::Output);
        let given = [Descriptor::Input(streams.input), output, error]
            .into_iter()
            .chain(self.preopens.descriptors());
        Wasi {
            context: Context::Module(Table::new(given, self.open_files, self.quota.clone())),
            refused,
        }
    }

    /// Creates the context of a component's process. A component can call all WASI functions, and
    /// its context decides what these functions can do.
    pub(crate) fn component_context(
        &self,
        process: (Pid, &str),
        grants: &Grants,
        redirected: Option<(PipeReader, PipeWriter)>,
    ) -> Wasi {
        let mut builder = WasiCtxBuilder::new();
        builder.max_random_size(MAX_RANDOM as u64);
        let is_redirected = redirected.is_some();
        let (streams, refused) = self.streams(process, redirected);
        let [output, error] = streams.outputs;
        if grants.allows("wasi:cli") {
            builder
                .args(&self.arguments)
                .envs(&self.variables)
                .stderr(error);
        }
        if grants.allows("wasi:cli") || is_redirected {
            builder.stdin(streams.input).stdout(output);
        }
        if grants.allows("wasi:sockets") {
            builder
                .inherit_network()
                .socket_addr_check(|address, _| Box::pin(ready(!reserved::includes(address))))
                .allow_tcp(true)
                .allow_udp(true)
                .allow_ip_name_lookup(true);
        }
        let mut context = builder.build();
        if grants.allows("wasi:filesystem") {
            let files = self
                .component_files
                .get_or_init(|| self.preopens.component_files());
            *context.filesystem() = files.clone();
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(
            self.open_files
                .saturating_add(self.preopens.len())
                .saturating_add(OTHER_ENTRIES),
        );
        let mut nothing = ResourceTable::new();
        nothing.set_max_capacity(0);
        Wasi {
            context: Context::Component(Box::new(ComponentContext {
                context,
                resources: table,
                nothing,
                withheld: None,
            })),
            refused,
        }
    }

    fn streams(
        &self,
        (pid, process): (Pid, &str),
        redirected: Option<(PipeReader, PipeWriter)>,
    ) -> (Streams, Arc<Mutex<Option<LimitReached>>>) {
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
        let outlet = |stdio, stream| Outlet::new(stdio, stream, writer.clone(), account.clone());
        let error = outlet(&self.stderr, Stream::Error);
        let (input, output) = match redirected {
            Some((input, output)) => (Inlet::Pipe(input), Outlet::uncounted(output)),
            None => (
                Inlet::new(&self.stdin),
                outlet(&self.stdout, Stream::Output),
            ),
        };
        let outputs = [output, error];
        (Streams { input, outputs }, refused)
    }

    /// Logs why a file was not found, once per environment. `why` returns the explanation, which
    /// names the file and what would grant access to it. `why` looks at the host's files, so its
    /// result must not reach the guest.
    pub(crate) fn explain_missing(&self, why: impl FnOnce() -> Option<String>) {
        if self.is_file_logged.load(Ordering::Relaxed) {
            return;
        }
        let Some(why) = why() else {
            return;
        };
        if !self.is_file_logged.swap(true, Ordering::Relaxed) {
            log::warn!("environment {}: {why}", self.environment);
        }
    }
}

/// A process's standard streams.
struct Streams {
    input: Inlet,
    /// Standard output and standard error.
    outputs: [Outlet; 2],
}

impl Wasi {
    /// Returns the context for a new call.
    pub(crate) fn begin_call(&mut self) -> &mut Wasi {
        *lock(&self.refused) = None;
        self
    }

    /// Returns the limit that the last call reached.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        match &self.context {
            Context::Component(component) if component.withheld.is_some() => component.withheld,
            _ => *lock(&self.refused),
        }
    }

    /// Returns the descriptors of a module's process.
    pub(crate) fn table(&mut self) -> &mut Table {
        match &mut self.context {
            Context::Module(table) => table,
            Context::Component(_) => {
                unreachable!("components cannot import functions meant for modules")
            }
        }
    }

    /// Returns the context of a component's process.
    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        let component = self.component();
        WasiCtxView {
            ctx: &mut component.context,
            table: match component.withheld {
                None => &mut component.resources,
                Some(_) => &mut component.nothing,
            },
        }
    }

    /// Returns the resources of a component's process.
    pub(crate) fn resources(&mut self) -> &mut ResourceTable {
        &mut self.component().resources
    }

    /// Withholds a component's resources from it, so that its subsequent calls fail. The resources
    /// are kept until the process ends, because an HTTP body that is dropped too early would seem
    /// complete.
    pub(crate) fn withhold_resources(&mut self, reached: LimitReached) {
        self.component().withheld.get_or_insert(reached);
    }

    fn component(&mut self) -> &mut ComponentContext {
        match &mut self.context {
            Context::Component(component) => component,
            Context::Module(_) => {
                unreachable!("modules cannot import functions meant for components")
            }
        }
    }
}
