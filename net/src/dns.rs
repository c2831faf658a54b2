//! Resolves names to addresses with the system's resolver (`getaddrinfo`), so the system's
//! configuration, such as `/etc/hosts`, applies. This module does not cache anything or send any
//! packets itself.
//!
//! The system's resolver blocks its thread until a name server answers, so lookups run on a limited
//! number of threads outside the executor: see [`Limits`].

mod name;
mod queue;

use crate::deadline::Deadline;
use crate::turns::ANYBODY;
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use name::Name;
use queue::{Answer, Full, Question, Queue};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZero;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

/// Limits on the work that a resolver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of concurrent lookups. Each lookup has its own thread. A lookup whose
    /// caller has given up still counts toward the limit until its thread has finished.
    pub running: NonZero<usize>,
    /// The maximum number of lookups that one owner can have waiting for a thread. Further lookups
    /// are refused.
    pub waiting: usize,
    /// The maximum number of addresses in an answer. Any others are dropped.
    pub addresses: usize,
}

impl Default for Limits {
    /// Returns limits of 16 running lookups, 512 waiting lookups and 64 addresses.
    fn default() -> Limits {
        Limits {
            running: NonZero::new(16).expect("16 is not 0"),
            waiting: 512,
            addresses: 64,
        }
    }
}

/// Looks up one host and returns its addresses with the given port. May block.
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks up host names within limits. A clone is another handle to the same resolver.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    look_up: Box<LookUp>,
    limits: Limits,
    queue: Mutex<Queue>,
}

impl Resolver {
    /// Returns a resolver that uses the system's resolver.
    pub fn new(limits: Limits) -> Resolver {
        Resolver::with_look_up(limits, ask_system)
    }

    /// Returns a resolver that finds a host's addresses by calling `look_up` with the host and the
    /// port. `look_up` may block, and is called on as many threads at a time as the limits allow.
    ///
    /// ```
    /// use lunatic_net::dns::{Limits, Resolver};
    ///
    /// let resolver = Resolver::with_look_up(Limits::default(), |host, port| match host {
    ///     "machine" => Ok(vec![([10, 0, 0, 7], port).into()]),
    ///     _ => Ok(vec![]),
    /// });
    /// let found = smol::block_on(resolver.resolve("machine:80", None))?;
    /// assert_eq!(found, [([10, 0, 0, 7], 80).into()]);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn with_look_up(
        limits: Limits,
        look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Resolver {
        let queue = Mutex::new(Queue::new(limits.running, limits.waiting));
        Resolver {
            shared: Arc::new(Shared {
                look_up: Box::new(look_up),
                limits,
                queue,
            }),
        }
    }

    /// Finds the addresses of `name`, given as `host:port` with a numeric port. The result contains
    /// at least one address and is in the system's order of preference. An address (`127.0.0.1:80`,
    /// `[::1]:80`) resolves to itself, without using a thread or waiting.
    ///
    /// Waits for at most `timeout`. When the timeout expires or the future is dropped, a lookup
    /// that is still queued is removed from the queue. A lookup that has started runs to completion
    /// on its thread, and its answer is dropped.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a malformed name, with a message that says what is wrong with the name;
    /// `NotFound` for a host without an address; `TimedOut`; `ResourceBusy` if too many lookups are
    /// already waiting. Other errors come from the system. The most common one, that no name server
    /// answered, has the kind `Other`.
    ///
    /// ```
    /// use lunatic_net::dns::Resolver;
    /// use std::io::ErrorKind;
    ///
    /// # smol::block_on(async {
    /// let resolver = Resolver::default();
    /// assert_eq!(resolver.resolve("10.0.0.7:80", None).await?, [([10, 0, 0, 7], 80).into()]);
    ///
    /// let error = resolver.resolve("localhost", None).await.expect_err("the port is missing");
    /// assert_eq!(error.kind(), ErrorKind::InvalidInput);
    /// assert_eq!(error.to_string(), r#""localhost" has no port: write "localhost:80", for example"#);
    /// # std::io::Result::Ok(()) })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub async fn resolve(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<SocketAddr>> {
        self.resolve_for(ANYBODY, name, timeout).await
    }

    /// Like [`resolve`](Resolver::resolve), but on behalf of one of several owners. Each owner has
    /// its own queue and gets at most three quarters of the threads, so that no owner has to wait
    /// for all of another owner's lookups.
    ///
    /// # Errors
    ///
    /// The same errors as [`resolve`](Resolver::resolve).
    pub async fn resolve_for(
        &self,
        owner: u64,
        name: &str,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = match Name::parse(name)? {
            Name::Address(address) => return Ok(vec![address]),
            Name::Host(host, port) => (host, port),
        };
        let what = format!("no addresses for `{host}`");
        let asked = self.ask(Question::new(owner, host.to_owned(), port))?;
        Deadline::after(timeout).bound(&what, asked).await
    }

    /// Starts a lookup or queues it.
    fn ask(&self, question: Arc<Question>) -> io::Result<Pending<'_>> {
        let admitted = self.shared.queue().admit(&question);
        match admitted {
            Ok(true) => {
                let (shared, question) = (Arc::clone(&self.shared), Arc::clone(&question));
                blocking::unblock(move || shared.answer_from(question)).detach();
            }
            Ok(false) => {}
            Err(Full) => {
                let Limits {
                    running, waiting, ..
                } = self.shared.limits;
                let full = format!(
                    "cannot look up `{}`: too many lookups ({running} running, {waiting} waiting); try again later",
                    question.host
                );
                return Err(io::Error::new(ErrorKind::ResourceBusy, full));
            }
        }
        Ok(Pending {
            shared: &self.shared,
            question,
        })
    }
}

impl Default for Resolver {
    /// Returns a resolver that uses the system's resolver within the default limits.
    fn default() -> Resolver {
        Resolver::new(Limits::default())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Runs a lookup thread: answers the given question and then queued questions until the queue
    /// is empty.
    fn answer_from(&self, first: Arc<Question>) {
        let mut next = Some(first);
        while let Some(question) = next {
            let answer = self.answer(&question.host, question.port);
            // The next question is taken before the answer is stored, because the caller that gets
            // the answer may ask again immediately.
            next = self.queue().next(question.owner);
            question.answer(answer);
        }
    }

    fn answer(&self, host: &str, port: u16) -> Answer {
        // After a panic, the thread must still be counted correctly, and the caller must still get
        // an answer.
        let looked_up = panic::catch_unwind(AssertUnwindSafe(|| (self.look_up)(host, port)));
        let mut addresses = looked_up.unwrap_or_else(|_| {
            Err(io::Error::other(format!("the lookup of `{host}` panicked")))
        })?;
        if addresses.is_empty() {
            return Err(not_found(host));
        }
        addresses.truncate(self.limits.addresses);
        Ok(addresses)
    }
}

/// An accepted question. Dropping this removes the question from the queue if it is still waiting.
struct Pending<'a> {
    shared: &'a Shared,
    question: Arc<Question>,
}

impl Future for Pending<'_> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.question.poll_answer(cx)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.shared.queue().remove(&self.question);
    }
}

/// Calls `getaddrinfo` for stream sockets only, so that each address is returned only once.
fn ask_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found =
        dns_lookup::getaddrinfo(Some(host), None, Some(hints)).map_err(|error| {
            match error.kind() {
                LookupErrorKind::NoName | LookupErrorKind::NoData => not_found(host),
                LookupErrorKind::Again => io::Error::other(format!(
                    "cannot look up `{host}`: no name server answered; try again later"
                )),
                _ => {
                    let error = io::Error::from(error);
                    io::Error::new(error.kind(), format!("cannot look up `{host}`: {error}"))
                }
            }
        })?;
    // Addresses of unsupported families are skipped.
    Ok(found
        .filter_map(|found| found.ok())
        .map(|found| {
            let mut address = found.sockaddr;
            address.set_port(port);
            address
        })
        .collect())
}

fn not_found(host: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("no address for host `{host}`"))
}
