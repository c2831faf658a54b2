//! A supervisor's plan, which defines its children.

use super::child::Child;
use super::rules::{Policy, Strategy};
use crate::envelope::Arrival;
use crate::request::Request;
use lunatic_abi::restart::{Backoff, Intensity};
use rmp_serde::decode;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

/// Creates children while a supervisor is running, each from an argument to
/// [`Supervisor::start_child`](super::Supervisor::start_child).
///
/// Define a template as a constant, and use it both in the plan and in the code that starts
/// children.
///
/// # Example
///
/// ```no_run
/// use lunatic::net::{TcpListener, TcpStream};
/// use lunatic::supervisor::{Child, Restart, Supervisor, Template};
/// use lunatic::{Mailbox, Process};
///
/// const CONNECTION: Template<TcpStream, Process<()>> = Template::new("connection", |stream| {
///     Child::process_with("connection", stream, serve).restart(Restart::Temporary)
/// });
///
/// fn serve(stream: TcpStream, _: Mailbox<()>) {
///     println!("{:?} is here", stream.peer_addr());
/// }
///
/// #[lunatic::main]
/// fn main(_: Mailbox<()>) {
///     let connections = Supervisor::start_link(|plan| {
///         plan.template(CONNECTION);
///     })
///     .unwrap();
///     let listener = TcpListener::bind("127.0.0.1:3000").unwrap();
///     for stream in listener.incoming().flatten() {
///         // If the child cannot be started, the connection is closed, and the server continues.
///         let _ = connections.start_child(CONNECTION, stream);
///     }
/// }
/// ```
pub struct Template<A, H> {
    pub(super) name: &'static str,
    child: fn(A) -> Child<H>,
}

impl<A, H> Template<A, H> {
    /// Creates a template from a function that turns an argument into a child. Each template in a
    /// plan must have a different name.
    pub const fn new(name: &'static str, child: fn(A) -> Child<H>) -> Self {
        Self { name, child }
    }
}

impl<A, H> Clone for Template<A, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, H> Copy for Template<A, H> {}

impl<A, H> fmt::Debug for Template<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.name).finish()
    }
}

/// Reads a template's argument from a message and creates the child.
pub(super) type CreateChild = Box<dyn Fn(&Arrival<'_>) -> Result<Child, decode::Error>>;

/// Defines a supervisor's children and its restart rules. A supervisor begins by running the
/// function that fills in its plan.
#[derive(Default)]
pub struct Plan {
    pub(super) policy: Policy,
    pub(super) children: Vec<Child>,
    pub(super) templates: HashMap<&'static str, CreateChild>,
}

impl Plan {
    /// Sets which other children are restarted along with a child. The default is
    /// [`Strategy::OneForOne`].
    pub fn strategy(&mut self, strategy: Strategy) -> &mut Self {
        self.policy.strategy = strategy;
        self
    }

    /// Sets how many restarts are allowed within a period, counting all children. If another
    /// restart is needed, the supervisor gives up. The default is 3 restarts in 5 seconds.
    ///
    /// Restarting a group counts as one restart.
    pub fn intensity(&mut self, restarts: u32, period: Duration) -> &mut Self {
        self.policy.intensity = Intensity {
            restarts: restarts as usize,
            within: period,
        };
        self
    }

    /// Delays restarts. A child's first restart is delayed by `first`, and each further restart
    /// by twice as long as the previous one, up to `most`. Once a child has run for a
    /// [period](Self::intensity), its delays start over from `first`. By default, restarts are not
    /// delayed.
    ///
    /// If the delays are so long that a period never contains too many restarts, the supervisor
    /// never gives up.
    pub fn back_off(&mut self, first: Duration, most: Duration) -> &mut Self {
        self.policy.backoff = Backoff {
            immediate: 0,
            first,
            most,
        };
        self
    }

    /// Adds a child after the existing ones.
    pub fn child<H>(&mut self, child: Child<H>) -> &mut Self {
        self.children.push(child.erase());
        self
    }

    /// Adds a template for creating children with
    /// [`Supervisor::start_child`](super::Supervisor::start_child).
    pub fn template<A, H>(&mut self, template: Template<A, H>) -> &mut Self
    where
        A: DeserializeOwned + 'static,
        H: 'static,
    {
        let create = move |arrival: &Arrival<'_>| {
            let request: Request<(IgnoredAny, A), ()> = arrival.open()?;
            let ((_, argument), _, _) = request.into_parts();
            Ok((template.child)(argument).erase())
        };
        self.templates.insert(template.name, Box::new(create));
        self
    }

    /// Checks that all children have different ids.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut ids = HashSet::new();
        match self.children.iter().find(|child| !ids.insert(&child.id)) {
            Some(child) => Err(format!("two children have the id `{}`", child.id)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("policy", &self.policy)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}
