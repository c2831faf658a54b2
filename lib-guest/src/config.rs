//! Environment configurations. A configuration is plain data that is passed to the machine when an
//! environment is created.

use crate::error::LunaticError;
use crate::host;
use lunatic_abi::Limit;

/// What the processes in an [`Environment`](crate::Environment) may do and use.
///
/// A configuration is plain data. Nothing is checked until
/// [`Environment::new`](crate::Environment::new), which fails if the configuration grants something
/// the calling process does not have. A new configuration grants only compute and memory: no host
/// functions, arguments, variables or directories.
///
/// # Example
///
/// ```
/// use lunatic::Config;
///
/// // 1,200,000 bytes of memory, and as much compute as this process has.
/// let mut config = Config::new(1_200_000, None);
/// config
///     .allow_namespace("lunatic::message::")
///     .allow_namespace("wasi_snapshot_preview1::fd_write")
///     .max_processes(100)
///     .environment_variable("MODE", "careful");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    limits: Vec<(Limit, u64)>,
    namespaces: Vec<String>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    directories: Vec<String>,
}

/// Defines a setter for each limit that [`Config::new`] doesn't set.
macro_rules! limits {
    ($($(#[$doc:meta])* $setter:ident => $limit:ident,)*) => {
        /// The limits. Each one defaults to the creating process's own limit, and cannot be set any
        /// higher.
        impl Config {
            $(
                $(#[$doc])*
                pub fn $setter(&mut self, most: u64) -> &mut Self {
                    self.limit(Limit::$limit, most)
                }
            )*
        }

        #[cfg(test)]
        const SET_APART: &[Limit] = &[$(Limit::$limit,)*];
    };
}

impl Config {
    /// Creates a configuration that limits each process to `max_memory` bytes of memory and
    /// `max_compute` units of compute.
    ///
    /// A unit of compute is about 100,000 wasm instructions; the same program always reaches the
    /// limit at the same point. `None` means the creating process's own limit.
    pub fn new(max_memory: u64, max_compute: Option<u64>) -> Self {
        let mut config = Self {
            limits: Vec::new(),
            namespaces: Vec::new(),
            arguments: Vec::new(),
            variables: Vec::new(),
            directories: Vec::new(),
        };
        config.limit(Limit::Memory, max_memory);
        if let Some(units) = max_compute {
            config.limit(Limit::Compute, units);
        }
        config
    }

    /// Allows the host functions whose `namespace::name` starts with `prefix`. For example,
    /// `wasi_snapshot_preview1::environ` allows two functions, `lunatic::networking::` allows
    /// sockets, and the empty string allows everything.
    ///
    /// Functions that the creating process may not call are left out. If no functions remain,
    /// [`Environment::new`](crate::Environment::new) fails. A process traps when it calls a
    /// function that is not allowed.
    pub fn allow_namespace(&mut self, prefix: &str) -> &mut Self {
        self.namespaces.push(prefix.to_owned());
        self
    }

    /// Grants access to one of the creating process's directories, or to a directory inside one.
    ///
    /// If the creating process cannot access the directory,
    /// [`Environment::new`](crate::Environment::new) traps.
    pub fn preopen_dir(&mut self, directory: &str) -> &mut Self {
        self.directories.push(directory.to_owned());
        self
    }

    /// Adds an argument, as yielded by `std::env::args`.
    pub fn argument(&mut self, argument: &str) -> &mut Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets an environment variable, as returned by `std::env::var`.
    pub fn environment_variable(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn limit(&mut self, limit: Limit, most: u64) -> &mut Self {
        self.limits.retain(|(other, _)| *other != limit);
        self.limits.push((limit, most));
        self
    }

    /// Copies the configuration to the machine, passes the copy's id to `make`, and drops the copy.
    pub(crate) fn hand_over<R>(
        &self,
        make: impl FnOnce(u64) -> Result<R, LunaticError>,
    ) -> Result<R, LunaticError> {
        let config = LunaticError::or_value(host::environment::create_empty_config)?;
        let made = self.write(config).and_then(|()| make(config));
        host::process::drop_config(config);
        made
    }

    /// Copies everything into a configuration held by the machine.
    fn write(&self, config: u64) -> Result<(), LunaticError> {
        for &(limit, most) in &self.limits {
            let set = |error: &mut u64| {
                host::environment::config_set_limit(config, limit as u32, most, error)
            };
            LunaticError::or_value(set)?;
        }
        for prefix in &self.namespaces {
            LunaticError::or_value(|error| {
                host::environment::config_allow_namespace(config, prefix, error)
            })?;
        }
        for argument in &self.arguments {
            host::wasi::config_add_command_line_argument(config, argument);
        }
        for (name, value) in &self.variables {
            host::wasi::config_add_environment_variable(config, name, value);
        }
        for directory in &self.directories {
            host::wasi::config_preopen_dir(config, directory);
        }
        Ok(())
    }
}

limits! {
    /// Limits the number of elements in a process's tables.
    max_table_elements => TableElements,
    /// Limits the number of live processes in the environment.
    max_processes => Processes,
    /// Limits the number of messages queued in one mailbox.
    max_mailbox_messages => MailboxMessages,
    /// Limits the number of bytes queued in one mailbox.
    max_mailbox_bytes => MailboxBytes,
    /// Limits the size of one message, in bytes.
    max_message_bytes => MessageBytes,
    /// Limits the number of pending timers in the environment.
    max_timers => Timers,
    /// Limits the number of names registered in the environment.
    max_names => Names,
    /// Limits the number of open sockets in the environment.
    max_sockets => Sockets,
    /// Limits the number of files and directories that one process can have open.
    max_files => Files,
    /// Limits the total number of bytes written to standard output and standard error in the
    /// environment.
    max_output => Output,
    /// Limits the number of errors, modules, configurations, environments and name lookups that one
    /// process can hold.
    max_handles => Handles,
    /// Limits the total memory of all processes in the environment, in bytes.
    max_total_memory => TotalMemory,
    /// Limits the total compute of all processes in the environment, in units.
    max_total_compute => TotalCompute,
    /// Limits the lifetime of one process, including time spent waiting, in milliseconds.
    max_time => Time,
    /// Limits the number of different metrics that the environment's processes can use while the
    /// program runs.
    max_metrics => Metrics,
    /// Limits the number of bytes that the machine can hold for one process outside the process's
    /// memory.
    max_host_memory => HostMemory,
    /// Limits the number of bytes that the machine can hold for all processes in the environment
    /// outside their memory.
    max_total_host_memory => TotalHostMemory,
    /// Limits the number of operating system descriptors that the environment's processes can hold:
    /// files, directories, sockets, databases and module images.
    max_descriptors => Descriptors,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_set() {
        let mut set = vec![Limit::Memory, Limit::Compute];
        set.extend(SET_APART);
        set.sort_by_key(|limit| *limit as u32);
        assert_eq!(set, Limit::ALL);
    }

    #[test]
    fn the_limit_set_last_applies() {
        let mut config = Config::new(1, Some(2));
        config.max_timers(3).max_timers(4);
        let limits = [(Limit::Memory, 1), (Limit::Compute, 2), (Limit::Timers, 4)];
        assert_eq!(config.limits, limits);
        assert_eq!(Config::new(1, None).limits, [(Limit::Memory, 1)]);
    }
}
