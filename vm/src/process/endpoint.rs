//! The host as a process.
//!
//! An [`Endpoint`] has a pid and a mailbox and no guest: host code sends and receives through it, links and monitors, and is
//! told of ends like any process.

use super::{Exit, Mail, Message, Pid, Process, Received, SendError, Wanted};
use crate::environment::Permit;
use crate::resources::{Attachment, Foreign, Resource};
use std::task::Poll;

/// A pid and a mailbox in the hands of the host. Dropping it ends it normally.
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
/// let Ok(Letter::ProcessDied { pid, exit, .. }) = vm.block_on(endpoint.receive()) else { panic!("it is told") };
/// assert_eq!(pid, process.pid());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Endpoint {
    process: Process,
    /// Its place among the processes of the environment.
    permit: Option<Permit>,
    /// Set once it was killed, or died with a link.
    ended: bool,
}

/// What an endpoint receives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Letter {
    /// A message.
    Message {
        /// Its tag; 0 for none.
        tag: i64,
        /// Its bytes.
        data: Vec<u8>,
        /// The resources of the embedder's kinds that came with it. Others are closed.
        resources: Vec<Foreign>,
    },
    /// A linked process failed.
    LinkDied {
        /// The link's tag.
        tag: i64,
        /// The process.
        pid: Pid,
        /// Why it ended.
        exit: Exit,
    },
    /// A monitored process ended.
    ProcessDied {
        /// The process.
        pid: Pid,
        /// Why it ended.
        exit: Exit,
    },
}

impl Endpoint {
    pub(crate) fn new(process: Process, permit: Permit) -> Endpoint {
        // A host that links wants to be told; nothing of it can be killed.
        process.set_told(true);
        Endpoint {
            process,
            permit: Some(permit),
            ended: false,
        }
    }

    /// Returns its pid.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Returns it as others hold it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Sends a message, with resources of the embedder's kinds. A message to the dead is dropped.
    ///
    /// # Errors
    ///
    /// [`SendError`] where the receiver has no room or must not have such a resource.
    pub fn send(
        &self,
        to: Pid,
        tag: i64,
        data: &[u8],
        resources: Vec<Foreign>,
    ) -> Result<(), SendError> {
        let Some(receiver) = self.process.environment().machine().process(to) else {
            return Ok(());
        };
        let attach = |resource| {
            Some(Attachment {
                resource: Resource::Foreign(resource),
                permit: None,
            })
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

    /// Links with a process: each is told of the other's failure, this one by a [`Letter::LinkDied`] with the tag.
    pub fn link(&self, pid: Pid, tag: i64) {
        self.process.link(pid, tag);
    }

    /// Ends a link.
    pub fn unlink(&self, pid: Pid) {
        self.process.unlink(pid);
    }

    /// Asks to be told of a process's end; at once where it does not exist.
    pub fn monitor(&self, pid: Pid) {
        self.process.monitor(pid, 0);
    }

    /// Takes that back.
    pub fn stop_monitoring(&self, pid: Pid) {
        self.process.stop_monitoring(pid, 0);
    }

    /// Waits for the first letter. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The endpoint's [`Exit`] once somebody killed it: by then its links and monitors were told.
    pub async fn receive(&mut self) -> Result<Letter, Exit> {
        self.receive_tagged(&[]).await
    }

    /// Waits for the first letter that has one of the tags; for any where there is none.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::receive`].
    pub async fn receive_tagged(&mut self, tags: &[i64]) -> Result<Letter, Exit> {
        let wanted = Wanted::from_tags(tags);
        let received = std::future::poll_fn(|context| {
            self.process.set_waker(context);
            if let Some(exit) = self.process.ending() {
                return Poll::Ready(Err(exit));
            }
            match self.process.receive(&wanted, 0, false) {
                Received::Mail(mail) => Poll::Ready(Ok(mail)),
                Received::Nothing => Poll::Pending,
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
        if !std::mem::replace(&mut self.ended, true) {
            let permit = self.permit.take();
            self.process.finish(exit, || drop(permit));
        }
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
            let foreign = |attachment: Option<Attachment>| match attachment?.resource {
                Resource::Foreign(foreign) => Some(foreign),
                _ => None,
            };
            let resources = message
                .attachments
                .into_iter()
                .filter_map(foreign)
                .collect();
            Letter::Message {
                tag: message.tag,
                data: message.data,
                resources,
            }
        }
        Mail::LinkDied { tag, pid, exit } => Letter::LinkDied { tag, pid, exit },
        Mail::ProcessDied { pid, exit, .. } => Letter::ProcessDied { pid, exit },
    }
}
