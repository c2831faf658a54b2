//! The configuration that an environment is created from.

use super::grants::Grants;
use super::journal::Journal;
use super::limits::Limits;
use super::wasi::{Access, PreopenError, Preopens, Stdio};
use crate::cache::Cache;
use crate::pipe::{PipeReader, PipeWriter};
use crate::scheduler::Weight;
use indexmap::IndexMap;
use lunatic_abi::Limit;
use std::path::Path;

/// A description of an environment. A new configuration grants no functions, files or variables,
/// and has the limits of [`Limits::default`].
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
    pub(crate) variables: IndexMap<String, String>,
    /// The size of the arguments and variables, in bytes.
    pub(crate) texts: usize,
    pub(crate) preopens: Preopens,
    pub(crate) stdin: Stdio<PipeReader>,
    pub(crate) stdout: Stdio<PipeWriter>,
    pub(crate) stderr: Stdio<PipeWriter>,
    pub(crate) journal: Option<Journal>,
    pub(crate) is_closed: bool,
    pub(crate) lingers: bool,
    pub(crate) weight: Weight,
    /// The compiled-code cache, which guests must not be able to access.
    cache: Cache,
}

/// Rights that guests can switch on and off through the published interface. In a host's
/// configuration, granting the corresponding functions also grants these rights. A process that
/// creates a configuration sets each right separately.
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
            variables: IndexMap::new(),
            texts: 0,
            preopens: Preopens::default(),
            stdin: Stdio::Inherit,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            journal: None,
            is_closed: false,
            lingers: false,
            weight: Weight::default(),
            cache: Cache::none(),
        }
    }

    /// Sets the machine's cache, which is no longer used once guests are granted a directory that
    /// contains it.
    pub(crate) fn guarding(mut self, cache: &Cache) -> Config {
        self.cache = cache.clone();
        self
    }

    /// Grants the functions whose `namespace::name` begins with the given prefix; the empty prefix
    /// grants all.
    pub fn allow(&mut self, prefix: &str) -> &mut Config {
        self.grants.allow(prefix);
        self
    }

    /// Removes the functions whose `namespace::name` begins with the given prefix. Functions that do
    /// the same under another name are removed too: those of `wasi_unstable` along with those of
    /// `wasi_snapshot_preview1`, and everything that spawns along with `lunatic::process::spawn`. To
    /// keep one of them, allow it afterwards.
    pub fn deny(&mut self, prefix: &str) -> &mut Config {
        self.grants.deny(prefix);
        self
    }

    /// Returns whether any of the VM's functions has a name that begins with the given prefix.
    /// Useful for detecting typos.
    pub fn knows(&self, prefix: &str) -> bool {
        self.grants.clone().allow(prefix) > 0
    }

    /// Returns the names of all of the VM's functions, granted or not, as `namespace::name`, in
    /// alphabetical order.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.grants.known()
    }

    /// Sets a limit; [`u64::MAX`] means no limit.
    pub fn limit(&mut self, limit: Limit, value: u64) -> &mut Config {
        self.limits.set(limit, value);
        self
    }

    /// Adds an argument. By convention, the first argument is the program's name.
    pub fn argument(&mut self, argument: &str) -> &mut Config {
        self.texts += argument.len();
        self.arguments.push(argument.to_string());
        self
    }

    /// Adds an environment variable. If there is one with the same name, it gets the new value and
    /// keeps its place.
    pub fn variable(&mut self, name: &str, value: &str) -> &mut Config {
        self.texts += name.len() + value.len();
        let replaced = self.variables.insert(name.to_string(), value.to_string());
        self.texts -= replaced.map_or(0, |replaced| name.len() + replaced.len());
        self
    }

    /// Grants access to a host directory at a guest path, replacing any directory granted at the
    /// same path.
    ///
    /// The directory is opened by this call, once for all processes. It stays granted even if its
    /// host path later refers to a different directory. It is closed when the last configuration or
    /// environment that holds it is dropped.
    ///
    /// If the machine's [`Cache`] is inside the directory, the cache is no longer used after this
    /// call, because a guest that could change compiled code could do anything.
    ///
    /// # Errors
    ///
    /// If the host path is not a directory or cannot be opened, or if the guest path contains `..`.
    pub fn preopen(
        &mut self,
        host: &Path,
        guest: &str,
        access: Access,
    ) -> Result<&mut Config, PreopenError> {
        let directory = self.preopens.open(host, guest, access)?;
        self.cache
            .granted(&directory, host, access == Access::Write);
        Ok(self)
    }

    /// Sets the processes' standard input. By default, this is the host program's.
    pub fn stdin(&mut self, stdin: Stdio<PipeReader>) -> &mut Config {
        self.stdin = stdin;
        self
    }

    /// Sets the processes' standard output. By default, this is the host program's.
    pub fn stdout(&mut self, stdout: Stdio<PipeWriter>) -> &mut Config {
        self.stdout = stdout;
        self
    }

    /// Sets the processes' standard error. By default, this is the host program's.
    pub fn stderr(&mut self, stderr: Stdio<PipeWriter>) -> &mut Config {
        self.stderr = stderr;
        self
    }

    /// Records in `journal` what the processes write and how they fail. The journal includes
    /// processes in environments that these processes create. Output still goes to its stream as
    /// well; to record it only in the journal, set the stream to [`Stdio::Null`].
    pub fn journal(&mut self, journal: &Journal) -> &mut Config {
        self.journal = Some(journal.clone());
        self
    }

    /// Promises that nothing outside the program will send messages to its processes. A receive
    /// then fails instead of waiting forever if only one process is left and no message can reach
    /// it.
    pub fn closed(&mut self) -> &mut Config {
        self.is_closed = true;
        self
    }

    /// Keeps the program's other processes alive after its main process
    /// ([`Environment::spawn_main`](crate::Environment::spawn_main)) ends, until the host has
    /// inspected them and ends the program.
    pub fn lingering(&mut self) -> &mut Config {
        self.lingers = true;
        self
    }

    /// Sets the program's share of CPU time when programs compete for it; 100 by default.
    ///
    /// Programs share CPU time in proportion to their weights, regardless of how many processes
    /// each program has. Environments that processes create share their program's time. A program
    /// may use any time that the other programs leave unused.
    pub fn weight(&mut self, weight: Weight) -> &mut Config {
        self.weight = weight;
        self
    }

    /// Returns how many bytes the configuration occupies, not counting its directories.
    pub(crate) fn size(&self) -> u64 {
        let texts = self.arguments.len() + 2 * self.variables.len();
        Config::SIZE + self.texts as u64 + texts as u64 * Config::size_of_text(0)
    }

    /// The size of a configuration without its strings, in bytes.
    pub(crate) const SIZE: u64 = 2 << 10;

    /// Returns how many bytes a string of this length occupies in a configuration, including the
    /// `String` itself and the allocation overhead.
    pub(crate) fn size_of_text(length: usize) -> u64 {
        length as u64 + 64
    }

    /// Keeps only the rights that `outer` also has, and takes over `outer`'s standard streams and
    /// journal. Directories are not restricted here, because they are checked when they are added.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::grants::Catalogue;

    #[test]
    fn a_variable_keeps_its_place_and_has_the_last_value() {
        let mut config = Config::new(Catalogue::new(Vec::new()).nothing());
        config.argument("program");
        for (name, value) in [("A", "1"), ("B", "22"), ("A", "333")] {
            config.variable(name, value);
        }
        let variables = config.variables.iter();
        let variables: Vec<_> = variables.map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(variables, [("A", "333"), ("B", "22")]);
        assert_eq!(config.texts, "programA333B22".len());
        assert_eq!(
            config.size(),
            Config::SIZE + 14 + 5 * Config::size_of_text(0)
        );
    }
}
