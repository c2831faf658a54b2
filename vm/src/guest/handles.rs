//! The resources that a process holds by number.
//!
//! A guest names a socket, a module or a timer by an id: a number that is valid only in its own
//! process. Ids count from 0 for each kind and are never reused, so that a stale id does not name
//! something else.

use super::failure::HostError;
use crate::environment::{Config, Permit};
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
    next: u64,
    entries: BTreeMap<u64, T>,
}

impl<T> Default for HandleTable<T> {
    fn default() -> HandleTable<T> {
        HandleTable {
            next: 0,
            entries: BTreeMap::new(),
        }
    }
}

impl<T> HandleTable<T> {
    /// Stores an entry and returns its id.
    pub(crate) fn insert(&mut self, thing: T) -> u64 {
        let id = self.next;
        self.next += 1;
        self.entries.insert(id, thing);
        id
    }

    pub(crate) fn get(&self, id: u64) -> Option<&T> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        self.entries.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<T> {
        self.entries.remove(&id)
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&u64, &mut T) -> bool) {
        self.entries.retain(keep);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// A socket and its share of the environment's quota, common to all handles to that socket in one
/// process.
#[derive(Clone, Debug)]
pub(crate) struct CountedSocket<T> {
    pub(crate) socket: T,
    pub(crate) permit: Arc<Permit>,
}

/// Everything that a process holds by number.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    pub(crate) configs: HandleTable<Config>,
    pub(crate) modules: HandleTable<Module>,
    pub(crate) environments: HandleTable<Environment>,
    pub(crate) addresses: HandleTable<std::vec::IntoIter<SocketAddr>>,
    pub(crate) listeners: HandleTable<CountedSocket<TcpListener>>,
    pub(crate) streams: HandleTable<CountedSocket<TcpStream>>,
    pub(crate) tls_listeners: HandleTable<CountedSocket<TlsListener<Arc<Permit>>>>,
    pub(crate) tls_streams: HandleTable<CountedSocket<TlsStream>>,
    pub(crate) udp_sockets: HandleTable<CountedSocket<UdpSocket>>,
    pub(crate) errors: HandleTable<HostError>,
    pub(crate) timers: HandleTable<Pending>,
    pub(crate) connections: HandleTable<Connection>,
    /// Prepared statements, each with the connection that it belongs to.
    pub(crate) statements: HandleTable<u64>,
    pub(crate) foreign: HandleTable<Foreign>,
    /// Processes, as guests of the older generation hold them.
    pub(crate) processes: HandleTable<Pid>,
    /// Modules, as guests of the older generation hold them.
    pub(crate) added_modules: HandleTable<AddedModule>,
}

/// A module and the environment that it was added to, which is where its processes live.
#[derive(Clone, Debug)]
pub(crate) struct AddedModule {
    pub(crate) module: Module,
    pub(crate) environment: Environment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t083_an_id_is_not_given_twice() {
        let mut table = HandleTable::default();
        assert_eq!((table.insert('a'), table.insert('b')), (0, 1));
        assert_eq!(table.remove(1), Some('b'));
        assert_eq!(table.insert('c'), 2);
        assert_eq!(table.get(1), None);
        assert_eq!(table.remove(1), None);
        assert_eq!(table.len(), 2);
    }
}
