//! Lets the host act as a process.
//!
//! An [`Endpoint`] has a pid and a mailbox but no guest. Host code can use it to send, receive,
//! link and monitor, and is notified of deaths like any process.

use crate::environment::Share;
use crate::machine::{Environment, Machine, Process, SendError};
use crate::travel::{Attachment, Foreign, Resource};
use lunatic_process::{Exit, LimitReached, Mail, Message, Pid, Wanted};
use std::fmt;
use std::sync::Arc;
use std::task::Poll;

/// A pid and a mailbox controlled by the host. Dropping the endpoint ends it normally.
///
/// ```
/// use lunatic_vm::{Letter, Vm};
///
/// let vm = Vm::builder().build()?;
/// let module = vm.module("trap", br#"(module (func (export "trap") unreachable))"#)?;
/// let mut config = vm.config();
/// let environment = vm.environment(config);
/// let mut endpoint = environment.endpoint("watcher")?;
/// let process = environment.spawn(&module, "trap", &[])?;
/// endpoint.monitor(process.pid());
/// let Ok(Letter::ProcessDied { pid, exit, .. }) = vm.block_on(endpoint.receive()) else { panic!("a monitor is notified") };
/// assert_eq!(pid, process.pid());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Endpoint {
    machine: Arc<Machine>,
    process: Process,
    /// The endpoint's share of the environment's process quota. `None` once the endpoint has ended.
    share: Option<Share<1>>,
}

/// A message or death notice received by an endpoint.
#[derive(Debug)]
#[non_exhaustive]
pub enum Letter {
    /// A message.
    Message {
        /// The message's tag. 0 means no tag.
        tag: i64,
        /// The message's data.
        data: Vec<u8>,
        /// The message's embedder-defined resources. All other resources are closed.
        resources: Vec<Foreign>,
    },
    /// A linked process failed.
    LinkDied {
        /// The link's tag.
        tag: i64,
        /// The process that died.
        pid: Pid,
        /// Why the process died.
        exit: Exit,
    },
    /// A monitored process died.
    ProcessDied {
        /// The process that died.
        pid: Pid,
        /// Why the process died.
        exit: Exit,
    },
}

impl Endpoint {
    pub(crate) fn new(environment: &Environment, process: Process, share: Share<1>) -> Endpoint {
        // The host cannot be killed through a link, so the endpoint is always notified instead.
        process.cell().set_notified(true);
        Endpoint {
            machine: environment.machine().clone(),
            process,
            share: Some(share),
        }
    }

    /// Returns the endpoint's pid.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Returns the endpoint as a [`Process`].
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Sends a message with embedder-defined resources. A message to a dead process is dropped.
    ///
    /// # Errors
    ///
    /// Returns a [`SendError`] if one of the receiver's limits is reached, or if the receiver may
    /// not have such a resource.
    pub fn send(
        &self,
        to: Pid,
        tag: i64,
        data: &[u8],
        resources: Vec<Foreign>,
    ) -> Result<(), SendError> {
        let Some(receiver) = self.machine.process(to) else {
            return Ok(());
        };
        let attach = |resource| {
            let resource = Resource::Foreign(resource);
            Some(Attachment::uncounted(resource).into())
        };
        let attachments = resources.into_iter().map(attach).collect();
        receiver
            .deliver(Message {
                tag,
                data: data.to_vec(),
                attachments,
            })
            .map_err(|(_, error)| error)
    }

    /// Links the endpoint to a process. Each is notified if the other fails; the endpoint receives
    /// a [`Letter::LinkDied`] with the given tag.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] if the endpoint's environment cannot pay for the link.
    pub fn link(&self, pid: Pid, tag: i64) -> Result<(), LimitReached> {
        self.machine.link(&self.process, pid, tag)
    }

    /// Removes a link.
    pub fn unlink(&self, pid: Pid) {
        self.machine.unlink(&self.process, pid);
    }

    /// Monitors a process, so that the endpoint is notified when it dies, or immediately if it does
    /// not exist.
    pub fn monitor(&self, pid: Pid) {
        self.machine.monitor(&self.process, pid, 0);
    }

    /// Removes a monitor.
    pub fn stop_monitoring(&self, pid: Pid) {
        self.machine.stop_monitoring(&self.process, pid, 0);
    }

    /// Waits for the first letter. Cancel safe: letters are not lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// Returns the endpoint's [`Exit`] once it has been killed. By then, its linked and monitoring
    /// processes have been notified.
    pub async fn receive(&mut self) -> Result<Letter, Exit> {
        self.receive_tagged(&[]).await
    }

    /// Waits for the first letter that has one of the tags, or for any letter if no tags are given.
    ///
    /// # Errors
    ///
    /// The same as for [`Endpoint::receive`].
    pub async fn receive_tagged(&mut self, tags: &[i64]) -> Result<Letter, Exit> {
        let wanted = Wanted::from_tags(tags);
        let received = std::future::poll_fn(|context| {
            let cell = self.process.cell();
            cell.set_waker(context);
            if let Some(exit) = cell.ending() {
                return Poll::Ready(Err(exit));
            }
            match cell.receive(&wanted, 0, false) {
                Some(mail) => Poll::Ready(Ok(mail)),
                None => Poll::Pending,
            }
        })
        .await;
        match received {
            Ok(mail) => Ok(letter(mail)),
            Err(exit) => {
                self.end(exit.clone());
                Err(exit)
            }
        }
    }

    fn end(&mut self, exit: Exit) {
        if let Some(share) = self.share.take() {
            let notices = self.machine.remove(&self.process, exit, || drop(share));
            self.machine.ended(&self.process, notices);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.process).finish()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.end(Exit::Normal);
    }
}

fn letter(mail: Mail) -> Letter {
    match mail {
        Mail::Data(message) => {
            let foreign = |mut attachment| Attachment::take(&mut attachment, Attachment::foreign);
            let attachments = message.attachments.into_iter();
            let resources = attachments.filter_map(foreign).collect();
            Letter::Message {
                tag: message.tag,
                data: message.data,
                resources,
            }
        }
        Mail::LinkDied { tag, pid, exit, .. } => Letter::LinkDied { tag, pid, exit },
        Mail::ProcessDied { pid, exit, .. } => Letter::ProcessDied { pid, exit },
    }
}
