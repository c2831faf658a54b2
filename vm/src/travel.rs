//! What can travel in a message, besides its bytes.

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

/// A resource of a kind that the machine does not know: one of the host program's own. Processes
/// hold it by an id and hand it on in messages; it is dropped with the last of them.
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
    /// Wraps a value. Only a process whose environment grants a function of this namespace can be
    /// sent it.
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

/// What can travel in a message.
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
    /// Returns the prefix of the functions that use it: a process that has none of them cannot be
    /// sent it. `None` if every process can be sent it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Resource::Module(_) => Some("lunatic::process::spawn"),
            Resource::TcpStream(_) => Some("lunatic::networking::tcp_"),
            Resource::TlsStream(_) => Some("lunatic::networking::tls_"),
            Resource::UdpSocket(_) => Some("lunatic::networking::udp_"),
            // It opens nothing by itself, and guests answer each other with the handles in their
            // messages, even those that may do little else.
            Resource::Process(_) => None,
            Resource::Foreign(foreign) => Some(foreign.namespace()),
        }
    }

    /// Returns the kind, as guests see it.
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

/// A resource on its way. It counts for the process that puts it into a message, and for the
/// receiver once it is sent.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) resource: Resource,
    /// Its share of the owner's quota, if it is counted.
    pub(crate) permit: Option<Arc<Permit>>,
}

impl Attachment {
    /// Makes one of a resource that nobody counts yet.
    pub(crate) fn uncounted(resource: Resource) -> Attachment {
        Attachment {
            resource,
            permit: None,
        }
    }

    /// Returns the resource if it is one of the embedder's.
    pub(crate) fn foreign(self) -> Result<Foreign, Attachment> {
        match self.resource {
            Resource::Foreign(foreign) => Ok(foreign),
            _ => Err(self),
        }
    }

    /// Looks at what a message carries.
    pub(crate) fn of(attachment: &lunatic_process::Attachment) -> &Attachment {
        attachment.downcast_ref().expect(ONE_TYPE)
    }

    /// Looks at what a message carries, to change it.
    pub(crate) fn of_mut(attachment: &mut lunatic_process::Attachment) -> &mut Attachment {
        attachment.downcast_mut().expect(ONE_TYPE)
    }

    /// Takes a resource out of a message, if there is one and it is of the kind that `open` looks
    /// for.
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

/// Why what a message carries is an [`Attachment`].
const ONE_TYPE: &str = "messages carry attachments of one type";
