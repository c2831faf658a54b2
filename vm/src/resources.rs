//! What a process holds by number, and what can travel in a message.
//!
//! A guest names a socket, a module or a timer by an id: a number that means something in its own process only. Ids count
//! from 0 for each kind and are not given twice, so that a stale one never names something else.

use crate::environment::{Config, Environment, Permit};
use crate::module::Module;
use crate::process::Pid;
use crate::sqlite::Connection;
use crate::timer::Pending;
use lunatic_abi::{Errno, ResourceKind};
use lunatic_net::tcp::{TcpListener, TcpStream};
use lunatic_net::tls::{TlsListener, TlsStream};
use lunatic_net::udp::UdpSocket;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The things of one kind that a process holds.
#[derive(Debug)]
pub(crate) struct Table<T> {
    next: u64,
    entries: BTreeMap<u64, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            next: 0,
            entries: BTreeMap::new(),
        }
    }
}

impl<T> Table<T> {
    /// Keeps a thing and returns its id.
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

/// A socket, and the place that it takes in its environment's quota. Handles to one socket in one process share the place.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    pub(crate) socket: T,
    pub(crate) permit: Arc<Permit>,
}

/// A failure that the guest knows by an id.
#[derive(Debug, Clone)]
pub(crate) struct HostError {
    pub(crate) errno: Errno,
    pub(crate) text: String,
}

/// The longest text of an error, in bytes. A guest can have the text speak of names that it made up.
const MAX_ERROR_TEXT: usize = 2048;

impl HostError {
    pub(crate) fn new(errno: Errno, text: impl fmt::Display) -> HostError {
        let mut text = text.to_string();
        if text.len() > MAX_ERROR_TEXT {
            text.truncate(text.floor_char_boundary(MAX_ERROR_TEXT));
            text.push('…');
            text.shrink_to_fit();
        }
        HostError { errno, text }
    }
}

/// Everything that a process holds by number.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    pub(crate) configs: Table<Config>,
    pub(crate) modules: Table<Module>,
    pub(crate) environments: Table<Environment>,
    pub(crate) addresses: Table<std::vec::IntoIter<SocketAddr>>,
    pub(crate) listeners: Table<Held<TcpListener>>,
    pub(crate) streams: Table<Held<TcpStream>>,
    pub(crate) tls_listeners: Table<Held<TlsListener<Arc<Permit>>>>,
    pub(crate) tls_streams: Table<Held<TlsStream>>,
    pub(crate) udp_sockets: Table<Held<UdpSocket>>,
    pub(crate) errors: Table<HostError>,
    pub(crate) timers: Table<Pending>,
    pub(crate) connections: Table<Connection>,
    /// Prepared statements, each with the connection that it belongs to.
    pub(crate) statements: Table<u64>,
    pub(crate) foreign: Table<Foreign>,
    /// Processes, as guests of the older generation hold them.
    pub(crate) processes: Table<Pid>,
    /// Modules, as guests of the older generation hold them.
    pub(crate) added_modules: Table<AddedModule>,
}

/// A module and the environment that it was added to, which is where its processes live.
#[derive(Clone, Debug)]
pub(crate) struct AddedModule {
    pub(crate) module: Module,
    pub(crate) environment: Environment,
}

/// A resource of a kind that the machine does not know: a host program's own. Processes hold it by an id, hand it on in
/// messages, and it is dropped with the last of them.
///
/// ```
/// use lunatic_vm::Foreign;
/// let connection = Foreign::new("db::connection", String::from("postgres"));
/// assert_eq!(connection.downcast::<String>().map(String::as_str), Some("postgres"));
/// assert!(connection.downcast::<u32>().is_none());
/// ```
#[derive(Clone)]
pub struct Foreign {
    namespace: Arc<str>,
    value: Arc<dyn Any + Send + Sync>,
}

impl Foreign {
    /// Wraps a value. A process can be sent it only where its environment grants a function of this namespace.
    pub fn new<T: Send + Sync + 'static>(namespace: &str, value: T) -> Foreign {
        Foreign {
            namespace: namespace.into(),
            value: Arc::new(value),
        }
    }

    /// Returns the namespace that it belongs to.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the value, if it is of this type.
    pub fn downcast<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.value.downcast_ref()
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Foreign").field(&self.namespace).finish()
    }
}

/// What can travel in a message.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    Module(Module),
    TcpStream(TcpStream),
    TlsStream(TlsStream),
    UdpSocket(UdpSocket),
    /// A handle of the older generation's.
    Process(Pid),
    Foreign(Foreign),
}

impl Resource {
    /// Returns the beginning of the names of the functions that use it: who has none of them cannot be sent it. `None` for
    /// what anybody can be sent.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Resource::Module(_) => Some("lunatic::process::spawn"),
            Resource::TcpStream(_) => Some("lunatic::networking::tcp_"),
            Resource::TlsStream(_) => Some("lunatic::networking::tls_"),
            Resource::UdpSocket(_) => Some("lunatic::networking::udp_"),
            // It opens nothing by itself. Guests answer each other with the handles in their messages, also where one of
            // them may do little else.
            Resource::Process(_) => None,
            Resource::Foreign(foreign) => Some(foreign.namespace()),
        }
    }

    /// Returns what guests are told that it is.
    pub(crate) fn kind(&self) -> ResourceKind {
        match self {
            Resource::Module(_) => ResourceKind::Module,
            Resource::TcpStream(_) => ResourceKind::TcpStream,
            Resource::TlsStream(_) => ResourceKind::TlsStream,
            Resource::UdpSocket(_) => ResourceKind::UdpSocket,
            Resource::Foreign(_) => ResourceKind::Foreign,
            // Only guests of the older generation take these.
            Resource::Process(_) => ResourceKind::None,
        }
    }

    /// Whether it counts among the sockets of an environment.
    pub(crate) fn is_socket(&self) -> bool {
        matches!(
            self,
            Resource::TcpStream(_) | Resource::TlsStream(_) | Resource::UdpSocket(_)
        )
    }
}

/// A resource on its way. It counts for whoever puts it into a message, and for the receiver from the moment it is sent.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) resource: Resource,
    /// The place in the quota of who has it, for what is counted.
    pub(crate) permit: Option<Arc<Permit>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t083_an_id_is_not_given_twice() {
        let mut table = Table::default();
        assert_eq!((table.insert('a'), table.insert('b')), (0, 1));
        assert_eq!(table.remove(1), Some('b'));
        assert_eq!(table.insert('c'), 2);
        assert_eq!(table.get(1), None);
        assert_eq!(table.remove(1), None);
        assert_eq!(table.len(), 2);
    }
}
