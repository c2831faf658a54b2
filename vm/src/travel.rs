//! What a message can carry besides its bytes.

use crate::environment::Permit;
use crate::module::Module;
use lunatic_abi::ResourceKind;
use lunatic_net::tcp::TcpStream;
use lunatic_net::tls::TlsStream;
use lunatic_net::udp::UdpSocket;
use lunatic_process::Pid;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A resource of a kind that the host program defines and the machine does not know. Processes
/// refer to it by an id and pass it on in messages; it is dropped with the last reference.
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
    /// Wraps a value. It can be sent only to a process whose environment grants a function of this
    /// namespace.
    pub fn new<T: Send + Sync + 'static>(namespace: &str, value: T) -> Foreign {
        Foreign {
            namespace: namespace.into(),
            value: Arc::new(value),
        }
    }

    /// Returns its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the value if it is of this type.
    pub fn downcast<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.value.downcast_ref()
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Foreign").field(&self.namespace).finish()
    }
}

/// What a message can carry.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    Module(Module),
    TcpStream(TcpStream),
    TlsStream(TlsStream),
    UdpSocket(UdpSocket),
    /// A handle of the older generation.
    Process(Pid),
    Foreign(Foreign),
}

impl Resource {
    /// Returns the prefix of the functions that use the resource: it cannot be sent to a process
    /// that has none of these. `None` if it can be sent to every process.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Resource::Module(_) => Some("lunatic::process::spawn"),
            Resource::TcpStream(_) => Some("lunatic::networking::tcp_"),
            Resource::TlsStream(_) => Some("lunatic::networking::tls_"),
            Resource::UdpSocket(_) => Some("lunatic::networking::udp_"),
            // It opens nothing by itself, and guests reply to each other with the handles in their
            // messages, even guests that may do little else.
            Resource::Process(_) => None,
            Resource::Foreign(foreign) => Some(foreign.namespace()),
        }
    }

    /// Returns the kind, as seen by guests.
    pub(crate) fn kind(&self) -> ResourceKind {
        match self {
            Resource::Module(_) => ResourceKind::Module,
            Resource::TcpStream(_) => ResourceKind::TcpStream,
            Resource::TlsStream(_) => ResourceKind::TlsStream,
            Resource::UdpSocket(_) => ResourceKind::UdpSocket,
            Resource::Foreign(_) => ResourceKind::Foreign,
            // Only guests of the older generation accept these.
            Resource::Process(_) => ResourceKind::None,
        }
    }

    /// Whether it counts as one of an environment's sockets.
    pub(crate) fn is_socket(&self) -> bool {
        matches!(
            self,
            Resource::TcpStream(_) | Resource::TlsStream(_) | Resource::UdpSocket(_)
        )
    }
}

/// A resource in transit. It counts toward the quota of the process that puts it into a message,
/// and of the receiver once it is sent.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) resource: Resource,
    /// Its share of the owner's quota, if counted.
    pub(crate) permit: Option<Arc<Permit>>,
}

impl Attachment {
    /// Wraps a resource that is not counted yet.
    pub(crate) fn uncounted(resource: Resource) -> Attachment {
        Attachment {
            resource,
            permit: None,
        }
    }

    /// Returns the resource if its kind is defined by the embedder.
    pub(crate) fn foreign(self) -> Result<Foreign, Attachment> {
        match self.resource {
            Resource::Foreign(foreign) => Ok(foreign),
            _ => Err(self),
        }
    }

    /// Returns a reference to the attachment of a message.
    pub(crate) fn of(attachment: &lunatic_process::Attachment) -> &Attachment {
        attachment.downcast_ref().expect(ONE_TYPE)
    }

    /// Returns a mutable reference to the attachment of a message.
    pub(crate) fn of_mut(attachment: &mut lunatic_process::Attachment) -> &mut Attachment {
        attachment.downcast_mut().expect(ONE_TYPE)
    }

    /// Takes a resource out of a message, if there is one of the kind that `open` looks for.
    pub(crate) fn take<T>(
        carried: &mut Option<lunatic_process::Attachment>,
        open: impl FnOnce(Attachment) -> Result<T, Attachment>,
    ) -> Option<T> {
        let attachment = carried.take()?.downcast().expect(ONE_TYPE);
        open(*attachment)
            .map_err(|attachment| *carried = Some(Box::new(attachment)))
            .ok()
    }
}

impl From<Attachment> for lunatic_process::Attachment {
    fn from(attachment: Attachment) -> lunatic_process::Attachment {
        Box::new(attachment)
    }
}

/// Why an attachment to a message is always an [`Attachment`].
const ONE_TYPE: &str = "messages carry attachments of one type";
