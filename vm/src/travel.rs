//! Resources that a message can carry in addition to its data.

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

/// A resource defined by the host program and opaque to the VM. Processes refer to it by an id and
/// can pass it on in messages. The value is dropped when the last reference to it is dropped.
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
    /// Wraps a value. It can be sent only to processes whose environment grants a function in this
    /// namespace.
    pub fn new<T: Send + Sync + 'static>(namespace: &str, value: T) -> Foreign {
        Foreign {
            namespace: namespace.into(),
            value: Arc::new(value),
        }
    }

    /// Returns the resource's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the value if it is of type `T`.
    pub fn downcast<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.value.downcast_ref()
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Foreign").field(&self.namespace).finish()
    }
}

/// A resource that a message can carry.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    Module(Module),
    TcpStream(TcpStream),
    TlsStream(TlsStream),
    UdpSocket(UdpSocket),
    /// A process handle, used by older generations of the interface.
    Process(Pid),
    Foreign(Foreign),
}

impl Resource {
    /// Returns the prefix of the functions that use the resource. The resource can be sent only to
    /// a process that is granted at least one of them. Returns `None` if it can be sent to any
    /// process.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Resource::Module(_) => Some("lunatic::process::spawn"),
            Resource::TcpStream(_) => Some("lunatic::networking::tcp_"),
            Resource::TlsStream(_) => Some("lunatic::networking::tls_"),
            Resource::UdpSocket(_) => Some("lunatic::networking::udp_"),
            // A process handle does not give access to anything else. Guests, including guests with
            // few rights, use handles in messages to reply to each other.
            Resource::Process(_) => None,
            Resource::Foreign(foreign) => Some(foreign.namespace()),
        }
    }

    /// Returns the kind of the resource, as guests see it.
    pub(crate) fn kind(&self) -> ResourceKind {
        match self {
            Resource::Module(_) => ResourceKind::Module,
            Resource::TcpStream(_) => ResourceKind::TcpStream,
            Resource::TlsStream(_) => ResourceKind::TlsStream,
            Resource::UdpSocket(_) => ResourceKind::UdpSocket,
            Resource::Foreign(_) => ResourceKind::Foreign,
            // Only guests of an older generation accept process handles.
            Resource::Process(_) => ResourceKind::None,
        }
    }

    /// Returns whether the resource counts toward an environment's socket limit.
    pub(crate) fn is_socket(&self) -> bool {
        matches!(
            self,
            Resource::TcpStream(_) | Resource::TlsStream(_) | Resource::UdpSocket(_)
        )
    }
}

/// A resource in transit. It counts toward the quota of the process that puts it into a message
/// and, once the message has been sent, toward the receiver's quota.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) resource: Resource,
    /// The resource's permit from the owner's quota, if the resource is counted.
    pub(crate) permit: Option<Arc<Permit>>,
}

impl Attachment {
    /// Wraps a resource that does not count toward a quota yet.
    pub(crate) fn uncounted(resource: Resource) -> Attachment {
        Attachment {
            resource,
            permit: None,
        }
    }

    /// Returns the resource if it is defined by the host program. Otherwise returns the attachment
    /// as an error.
    pub(crate) fn foreign(self) -> Result<Foreign, Attachment> {
        match self.resource {
            Resource::Foreign(foreign) => Ok(foreign),
            _ => Err(self),
        }
    }

    /// Returns a message's attachment as the VM's own type.
    pub(crate) fn of(attachment: &lunatic_process::Attachment) -> &Attachment {
        attachment.downcast_ref().expect(ONE_TYPE)
    }

    /// Returns a message's attachment as the VM's own type, for modification.
    pub(crate) fn of_mut(attachment: &mut lunatic_process::Attachment) -> &mut Attachment {
        attachment.downcast_mut().expect(ONE_TYPE)
    }

    /// Takes the resource out of a message if `open` accepts it. Otherwise leaves it in the
    /// message.
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

/// Why downcasting a message's attachment to [`Attachment`] cannot fail.
const ONE_TYPE: &str = "messages carry attachments of one type";
