//! The resources that a process refers to by number.
//!
//! A guest refers to a socket, a module or a timer by its id, a number that is valid only in the
//! guest's own process. The ids of each kind count up from 0 and are never reused, so a stale id
//! never refers to a different resource.

use super::failure::{Failure, HostError, MAX_ERROR_TEXT};
use crate::environment::{Charge, Config, Permit};
use crate::machine::Environment;
use crate::module::Module;
use crate::sqlite::Connection;
use crate::timer::Pending;
use crate::travel::Foreign;
use lunatic_net::tcp::{TcpListener, TcpStream};
use lunatic_net::tls::{TlsListener, TlsStream};
use lunatic_net::udp::UdpSocket;
use lunatic_process::Pid;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The resources of one kind that a process holds.
#[derive(Debug)]
pub(crate) struct HandleTable<T> {
    /// What a resource of this kind is called in error messages.
    name: &'static str,
    next: u64,
    entries: BTreeMap<u64, T>,
}

impl<T> HandleTable<T> {
    fn new(name: &'static str) -> HandleTable<T> {
        HandleTable {
            name,
            next: 0,
            entries: BTreeMap::new(),
        }
    }

    /// Stores an entry and returns its id.
    pub(crate) fn insert(&mut self, thing: T) -> u64 {
        let id = self.next;
        self.next += 1;
        self.entries.insert(id, thing);
        id
    }

    /// Returns an entry. Traps if there is no entry with the given id.
    pub(crate) fn get(&self, id: u64) -> Result<&T, Failure> {
        self.entries.get(&id).ok_or_else(|| unknown(self.name, id))
    }

    /// Returns a mutable reference to an entry. Traps if there is no entry with the given id.
    pub(crate) fn get_mut(&mut self, id: u64) -> Result<&mut T, Failure> {
        let name = self.name;
        self.entries.get_mut(&id).ok_or_else(|| unknown(name, id))
    }

    /// Removes an entry. Traps if there is no entry with the given id.
    pub(crate) fn remove(&mut self, id: u64) -> Result<T, Failure> {
        self.entries
            .remove(&id)
            .ok_or_else(|| unknown(self.name, id))
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&u64, &mut T) -> bool) {
        self.entries.retain(keep);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns what a resource of this kind is called in error messages.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

fn unknown(what: &str, id: u64) -> Failure {
    Failure::trap(format!("there is no {what} {id}"))
}

/// A socket and its permit from the environment's quota. All handles to the socket in one process
/// share the permit.
#[derive(Clone, Debug)]
pub(crate) struct CountedSocket<T> {
    pub(crate) socket: T,
    pub(crate) permit: Arc<Permit>,
}

/// The size, in bytes, of a handle in its table and a small resource that it refers to.
const HANDLE: u64 = 256;

/// The size of an error, which consists of a handle and a message.
const ERROR: u64 = HANDLE + MAX_ERROR_TEXT as u64;

/// The size of a TLS connection, which consists of a handle, buffers and keys.
const TLS_STREAM: u64 = HANDLE + (48 << 10);

macro_rules! handles {
    ($($(#[$about:meta])* $table:ident: $thing:ty, $name:literal, $size:expr;)*) => {
        /// All resources that a process refers to by number.
        #[derive(Debug)]
        pub(crate) struct Handles {
            $($(#[$about])* pub(crate) $table: HandleTable<$thing>,)*
            /// The charge for the handles. Configurations, modules and environments are charged
            /// separately.
            pub(crate) charge: Option<Charge>,
        }

        impl Default for Handles {
            fn default() -> Handles {
                Handles {
                    $($table: HandleTable::new($name),)*
                    charge: None,
                }
            }
        }

        impl Handles {
            /// Returns how many bytes the handles occupy.
            pub(crate) fn size(&self) -> u64 {
                [$(self.$table.len() as u64 * $size,)*].iter().sum()
            }
        }
    };
}

handles! {
    configs: HeldConfig, "configuration", HANDLE;
    modules: Module, "module", HANDLE;
    environments: Environment, "environment", HANDLE;
    addresses: std::vec::IntoIter<SocketAddr>, "lookup result", HANDLE;
    listeners: CountedSocket<TcpListener>, "listener", HANDLE;
    streams: CountedSocket<TcpStream>, "stream", HANDLE;
    tls_listeners: CountedSocket<TlsListener<Arc<Permit>>>, "TLS listener", TLS_STREAM;
    tls_streams: CountedSocket<TlsStream>, "TLS stream", TLS_STREAM;
    udp_sockets: CountedSocket<UdpSocket>, "UDP socket", HANDLE;
    errors: HostError, "error", ERROR;
    timers: Pending, "timer", HANDLE;
    connections: Connection, "connection", HANDLE;
    /// Prepared statements, each with the connection that it belongs to.
    statements: u64, "statement", HANDLE;
    foreign: Foreign, "resource", HANDLE;
    /// Processes held by guests of the older generation.
    processes: Pid, "process", HANDLE;
    /// Modules held by guests of the older generation.
    added_modules: AddedModule, "module", HANDLE;
}

/// A configuration and the charge for its memory.
#[derive(Debug)]
pub(crate) struct HeldConfig {
    pub(crate) config: Config,
    pub(crate) charge: Charge,
}

/// A module and the environment that it was added to. The module's processes live in that
/// environment.
#[derive(Clone, Debug)]
pub(crate) struct AddedModule {
    pub(crate) module: Module,
    pub(crate) environment: Environment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t083_an_id_is_never_reused() {
        let mut table = HandleTable::new("letter");
        assert_eq!((table.insert('a'), table.insert('b')), (0, 1));
        assert_eq!(table.remove(1).ok(), Some('b'));
        assert_eq!(table.insert('c'), 2);
        assert!(table.get(1).is_err());
        assert!(table.remove(1).is_err());
        assert_eq!(table.len(), 2);
    }
}
