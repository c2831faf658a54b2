//! What an environment is made from.

use super::grants::Grants;
use super::journal::Journal;
use super::limits::Limits;
use super::wasi::{Access, PreopenError, Preopens, Stdio};
use crate::pipe::{PipeReader, PipeWriter};
use crate::scheduler::Weight;
use lunatic_abi::Limit;
use std::path::Path;

/// A description of an environment. A new configuration grants no function, no file and no
/// variable, and has the limits of [`Limits::default`].
///
/// ```
/// use lunatic_vm::{Limit, Vm};
///
/// let vm = Vm::builder().build()?;
/// let mut config = vm.config();
/// config.allow("lunatic::message").allow("wasi_snapshot_preview1::clock").deny("lunatic::message::push_");
/// config.limit(Limit::Memory, 1_200_000).limit(Limit::Compute, 1);
/// let environment = vm.environment(config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
    pub(crate) permissions: Permissions,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) preopens: Preopens,
    pub(crate) stdin: Stdio<PipeReader>,
    pub(crate) stdout: Stdio<PipeWriter>,
    pub(crate) stderr: Stdio<PipeWriter>,
    pub(crate) journal: Option<Journal>,
    pub(crate) is_closed: bool,
    pub(crate) lingers: bool,
    pub(crate) weight: Weight,
}

/// Rights that the published interface has switches for. If a host grants the functions, the rights
/// come with them; a process that creates a configuration sets each right separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub(crate) compile_modules: bool,
    pub(crate) create_configs: bool,
    pub(crate) spawn_processes: bool,
}

impl Permissions {
    pub(crate) const ALL: Permissions = Permissions {
        compile_modules: true,
        create_configs: true,
        spawn_processes: true,
    };
    pub(crate) const NONE: Permissions = Permissions {
        compile_modules: false,
        create_configs: false,
        spawn_processes: false,
    };
}

impl Config {
    pub(crate) fn new(grants: Grants) -> Config {
        Config {
            limits: Limits::default(),
            grants,
            permissions: Permissions::ALL,
            arguments: Vec::new(),
            variables: Vec::new(),
            preopens: Preopens::default(),
            stdin: Stdio::Inherit,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            journal: None,
            is_closed: false,
            lingers: false,
            weight: Weight::default(),
        }
    }

    /// Grants the functions whose `namespace::name` begins with this prefix; the empty prefix
    /// grants all.
    pub fn allow(&mut self, prefix: &str) -> &mut Config {
        self.grants.allow(prefix);
        self
    }

    /// Removes the functions whose `namespace::name` begins with this prefix.
    pub fn deny(&mut self, prefix: &str) -> &mut Config {
        self.grants.deny(prefix);
        self
    }

    /// Whether the name of any function of the machine begins with this prefix, to tell a typo from
    /// a grant.
    pub fn knows(&self, prefix: &str) -> bool {
        self.grants.clone().allow(prefix) > 0
    }

    /// Returns the names of all functions of the machine, granted or not, as `namespace::name`,
    /// sorted.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.grants.known()
    }

    /// Sets a limit; [`u64::MAX`] means no limit.
    pub fn limit(&mut self, limit: Limit, value: u64) -> &mut Config {
        self.limits.set(limit, value);
        self
    }

    /// Adds an argument. By convention the first is the program's name.
    pub fn argument(&mut self, argument: &str) -> &mut Config {
        self.arguments.push(argument.to_string());
        self
    }

    /// Adds an environment variable, replacing any variable of the same name.
    pub fn variable(&mut self, name: &str, value: &str) -> &mut Config {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_string(), value.to_string()));
        self
    }

    /// Grants a directory of the host under a guest path, replacing any directory granted under the
    /// same path.
    ///
    /// The directory is opened here, once for all processes, and stays granted even if its path
    /// leads elsewhere later. It is closed with the last configuration or environment that has it.
    ///
    /// # Errors
    ///
    /// If it is not a directory or cannot be opened, or if the guest path contains a `..`.
    pub fn preopen(
        &mut self,
        host: &Path,
        guest: &str,
        access: Access,
    ) -> Result<&mut Config, PreopenError> {
        self.preopens.open(host, guest, access)?;
        Ok(self)
    }

    /// Sets what the processes read from; by default, the host program's standard input.
    pub fn stdin(&mut self, stdin: Stdio<PipeReader>) -> &mut Config {
        self.stdin = stdin;
        self
    }

    /// Sets what the processes write their output to; by default, the host program's standard
    /// output.
    pub fn stdout(&mut self, stdout: Stdio<PipeWriter>) -> &mut Config {
        self.stdout = stdout;
        self
    }

    /// Sets what the processes write their errors to; by default, the host program's standard
    /// error.
    pub fn stderr(&mut self, stderr: Stdio<PipeWriter>) -> &mut Config {
        self.stderr = stderr;
        self
    }

    /// Keeps a journal of what the processes write and how those that fail end, including processes
    /// in environments that they create. Output still goes to its stream; a host that wants it only
    /// in the journal sets [`Stdio::Null`].
    pub fn journal(&mut self, journal: &Journal) -> &mut Config {
        self.journal = Some(journal.clone());
        self
    }

    /// Promises that nothing outside the program sends to its processes. A receive by the last
    /// process that can never be answered then fails instead of waiting.
    pub fn closed(&mut self) -> &mut Config {
        self.is_closed = true;
        self
    }

    /// Keeps the processes that the program's main process
    /// ([`Environment::spawn_main`](crate::Environment::spawn_main)) leaves behind until the host
    /// has inspected them and ends the program.
    pub fn lingering(&mut self) -> &mut Config {
        self.lingers = true;
        self
    }

    /// Sets the program's share of CPU time when programs compete for it; 100 by default.
    ///
    /// Programs share time by weight, however many processes each has. Environments that processes
    /// create share their program's time. A program may use whatever the others leave.
    pub fn weight(&mut self, weight: Weight) -> &mut Config {
        self.weight = weight;
        self
    }

    /// Keeps only the rights that another configuration also has, and takes over its standard
    /// streams and journal. Directories are checked when they are added.
    pub(crate) fn restrict_to(&mut self, outer: &Config) {
        self.stdin = outer.stdin.clone();
        self.stdout = outer.stdout.clone();
        self.stderr = outer.stderr.clone();
        self.journal = outer.journal.clone();
        self.limits = self.limits.within(&outer.limits);
        self.grants.restrict_to(&outer.grants);
        self.permissions.compile_modules &= outer.permissions.compile_modules;
        self.permissions.create_configs &= outer.permissions.create_configs;
        self.permissions.spawn_processes &= outer.permissions.spawn_processes;
    }
}
