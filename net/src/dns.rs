//! Names to addresses, by the system's own resolver (`getaddrinfo`). It caches nothing and sends no
//! packet of its own; what the system's configuration says, such as `/etc/hosts`, holds.
//!
//! The system's resolver blocks its thread for as long as a name server keeps silent, so look-ups run
//! on threads beside the executor, and only so many of them: see [`Limits`].

mod name;
mod turns;

use crate::deadline::Deadline;
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use name::Name;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZero;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use turns::{Answer, Question, Refused, Turns};

/// How much looking-up there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Look-ups that run at once, each on a thread of its own while it runs. A look-up whose caller
    /// has given up counts until its thread is done.
    pub running: NonZero<usize>,
    /// Look-ups that wait for one of those to end. One more is refused.
    pub waiting: usize,
    /// Addresses in one answer; what a name has beyond these is left out.
    pub addresses: usize,
}

impl Default for Limits {
    /// 16 running, 512 waiting, 64 addresses.
    fn default() -> Limits {
        Limits {
            running: NonZero::new(16).expect("16 is not 0"),
            waiting: 512,
            addresses: 64,
        }
    }
}

/// The function that looks up one host, with the port for its addresses; it may block.
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks up names, within its limits. A clone is another handle to the same resolver.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    look_up: Box<LookUp>,
    limits: Limits,
    turns: Mutex<Turns>,
}

impl Resolver {
    /// A resolver that asks the system.
    pub fn new(limits: Limits) -> Resolver {
        Resolver::with_look_up(limits, ask_system)
    }

    /// A resolver that asks `look_up` for the addresses of a host, to be answered with the given port.
    /// The function may block, and runs on as many threads at once as the limits allow.
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
        let turns = Mutex::new(Turns::new(limits.running, limits.waiting));
        Resolver {
            shared: Arc::new(Shared {
                look_up: Box::new(look_up),
                limits,
                turns,
            }),
        }
    }

    /// Finds the addresses of `name`, which is `host:port`; the port is a number. There is at least
    /// one, in the order in which the system prefers them. An address (`127.0.0.1:80`, `[::1]:80`) is
    /// its own answer, without a thread or a wait.
    ///
    /// Waits for at most `timeout`. A caller that gives up, by that or by dropping the future, leaves
    /// the queue; a look-up that has begun ends on its thread, unheard.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a malformed name, saying what is wrong with it; `NotFound` for a host that
    /// has no address; `TimedOut`; `ResourceBusy` when too many look-ups are waiting already; anything
    /// else is the system's, of which the most frequent, a name server that could not be asked, is
    /// `Other`.
    ///
    /// ```
    /// use lunatic_net::dns::Resolver;
    /// use std::io::ErrorKind;
    ///
    /// # smol::block_on(async {
    /// let resolver = Resolver::default();
    /// assert_eq!(resolver.resolve("10.0.0.7:80", None).await?, [([10, 0, 0, 7], 80).into()]);
    ///
    /// let error = resolver.resolve("localhost", None).await.expect_err("no port");
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
        let (host, port) = match Name::parse(name)? {
            Name::Address(address) => return Ok(vec![address]),
            Name::Host(host, port) => (host, port),
        };
        let what = format!("no addresses of `{host}`");
        let asked = self.ask(Question::new(host.to_owned(), port))?;
        Deadline::after(timeout).bound(&what, asked).await
    }

    /// Starts a look-up or puts it into the queue.
    fn ask(&self, question: Arc<Question>) -> io::Result<Asked<'_>> {
        let turn = self.shared.turns().ask(&question);
        match turn {
            Ok(true) => {
                let (shared, question) = (Arc::clone(&self.shared), Arc::clone(&question));
                blocking::unblock(move || shared.answer_from(question)).detach();
            }
            Ok(false) => {}
            Err(Refused) => {
                let Limits {
                    running, waiting, ..
                } = self.shared.limits;
                let full = format!(
                    "cannot look up `{}`: {running} look-ups run and {waiting} wait already; try again later",
                    question.host
                );
                return Err(io::Error::new(ErrorKind::ResourceBusy, full));
            }
        }
        Ok(Asked {
            shared: &self.shared,
            question,
        })
    }
}

impl Default for Resolver {
    /// A resolver that asks the system, within the default limits.
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
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns
            .lock()
            .expect("nothing panics while it holds the turns")
    }

    /// Answers this question, and then those that wait, until none does: the life of one thread.
    fn answer_from(&self, first: Arc<Question>) {
        let mut next = Some(first);
        while let Some(question) = next {
            let answer = self.answer(&question.host, question.port);
            // The turn passes on first: whoever hears the answer may ask again at once.
            next = self.turns().pass_on();
            question.answer(answer);
        }
    }

    fn answer(&self, host: &str, port: u16) -> Answer {
        // A panic must not take the turn with it, or the caller's hope of an answer.
        let looked_up = panic::catch_unwind(AssertUnwindSafe(|| (self.look_up)(host, port)));
        let mut addresses = looked_up.unwrap_or_else(|_| {
            Err(io::Error::other(format!(
                "the look-up of `{host}` panicked"
            )))
        })?;
        if addresses.is_empty() {
            return Err(not_found(host));
        }
        addresses.truncate(self.limits.addresses);
        Ok(addresses)
    }
}

/// A question that was accepted. Dropping it takes the question out of the queue, if it is still there.
struct Asked<'a> {
    shared: &'a Shared,
    question: Arc<Question>,
}

impl Future for Asked<'_> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.question.poll_answer(cx)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.shared.turns().forget(&self.question);
    }
}

/// `getaddrinfo`, told that we want stream addresses so that each comes once.
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
    // An address of a family that we cannot use is passed over.
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
