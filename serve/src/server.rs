//! The server, which runs gateways.
//!
//! A [`Server`] owns the listening sockets. It does not run functions; they run on the machine's
//! workers.

mod accept;

use crate::gateway::http::listener::HttpListener;
use crate::gateway::http::setup::{Handler, Setup, SetupError};
use crate::gateway::tcp;
use crate::runtime;
use crate::stop::{Phase, Stopper};
use crate::{Code, Functions, Gateway, HttpLimits, Name, Protocol, TcpGateway, TlsFiles};
use accept::{Acceptor, accept};
use lunatic_vm::Reserved;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;

/// The maximum number of connections waiting to be accepted. The system may allow fewer.
const BACKLOG: u32 = 4096;
/// How long the connections of a gateway removed by [`Server::reload`] may continue.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that runs gateways. Dropping it closes everything immediately, whereas
/// [`stop`](Server::stop) lets requests finish.
///
/// ```
/// use lunatic_serve::{Code, Functions, Gateway, HttpGateway, Name, Protocol, Route, Server, Settings, Target};
/// use lunatic_vm::{Host, Vm};
/// use std::time::Duration;
///
/// let mut host = Host::default();
/// lunatic_serve::add_to_host(&mut host);
/// let vm = Vm::builder().host(host).build()?;
///
/// let bytes = br#"(module (func (export "_start")))"#;
/// let functions = Functions::new(&vm);
/// let name = Name::new("silent")?;
/// functions.put(&name, 1, blake3::hash(bytes), Code::new(&vm, "silent", bytes)?, Settings::default())?;
///
/// let route = Route { path: "/".into(), target: Target::Function(name) };
/// let http = HttpGateway { routes: vec![route], tls: None, limits: Default::default() };
/// let gateway = Gateway { name: "index".into(), address: "127.0.0.1:0".parse()?, protocol: Protocol::Http(http) };
/// let server = Server::builder(&functions).gateway(gateway).start()?;
///
/// let address = server.listening()[0].address;
/// assert_ne!(address.port(), 0);
/// assert!(server.stop(Duration::from_secs(10)), "no request had to be cut off");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    functions: Functions,
    is_logged: bool,
    listeners: Mutex<Vec<Listener>>,
    runtime: &'static Handle,
}

/// Builds a [`Server`].
pub struct ServerBuilder {
    functions: Functions,
    threads: NonZeroUsize,
    is_logged: bool,
    gateways: Vec<Gateway>,
    mounts: Vec<Mount>,
}

/// An address that the server is listening on for a gateway or service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The gateway's name.
    pub name: String,
    /// The address being listened on, with the actual port.
    pub address: SocketAddr,
}

/// Why gateways cannot be started. If so, none are started, and running gateways are left
/// unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The server cannot listen on the address.
    #[error("gateway `{gateway}` cannot listen on {address}: {source}")]
    Bind {
        /// The gateway's name.
        gateway: String,
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// Two gateways have the same address.
    #[error("gateway `{gateway}` cannot listen on {address}: another gateway already does")]
    Twice {
        /// The name of the second gateway.
        gateway: String,
        /// The address they share.
        address: SocketAddr,
    },
    /// A gateway leads to a function that does not exist.
    #[error("gateway `{gateway}` leads to the function `{function}`, which does not exist")]
    NoFunction {
        /// The gateway's name.
        gateway: String,
        /// The function's name.
        function: Name,
    },
    /// A gateway's description cannot be used.
    #[error("gateway `{gateway}`: {what}")]
    Setup {
        /// The gateway's name.
        gateway: String,
        /// What is wrong and how to fix it.
        what: String,
    },
    /// The system cannot start the threads.
    #[error("cannot start the threads for the gateways: {0}")]
    Threads(io::Error),
}

/// A listener that works like an HTTP gateway but has its own handler instead of functions.
pub(crate) struct Mount {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) limits: HttpLimits,
    pub(crate) handler: Handler,
}

/// A gateway or mount that is listening.
struct Listener {
    name: String,
    /// The address in the description of the gateway or mount.
    configured: SocketAddr,
    local: SocketAddr,
    acceptor: Arc<RwLock<Acceptor>>,
    stopper: Arc<Stopper>,
    /// Set for a mount, which [`Server::reload`] leaves alone and functions cannot connect to.
    reserved: Option<Reserved>,
}

/// A gateway or mount whose description is valid.
struct Checked {
    name: String,
    address: SocketAddr,
    protocol: CheckedProtocol,
    is_mount: bool,
}

enum CheckedProtocol {
    Http(Setup),
    Tcp(TcpGateway),
}

impl ServerBuilder {
    /// Adds a gateway.
    pub fn gateway(mut self, gateway: Gateway) -> ServerBuilder {
        self.gateways.push(gateway);
        self
    }

    /// Adds a listener with its own handler.
    pub(crate) fn mount(mut self, mount: Mount) -> ServerBuilder {
        self.mounts.push(mount);
        self
    }

    /// Sets the number of I/O threads for connections, which is 2 by default. Functions run
    /// elsewhere.
    ///
    /// All servers and services in a process share these threads, so only the first server or
    /// service can choose how many there are.
    pub fn threads(mut self, threads: NonZeroUsize) -> ServerBuilder {
        self.threads = threads;
        self
    }

    /// Logs one line per request through the `log` crate, with the target `access` at level `info`.
    /// Off by default.
    pub fn access_log(mut self, is_logged: bool) -> ServerBuilder {
        self.is_logged = is_logged;
        self
    }

    /// Starts all gateways or none. Blocks until all of them are listening.
    ///
    /// # Errors
    ///
    /// The [`StartError`] names the gateway, the address and the reason.
    pub fn start(self) -> Result<Server, StartError> {
        let server = Server {
            functions: self.functions,
            is_logged: self.is_logged,
            listeners: Mutex::default(),
            runtime: runtime::start(self.threads).map_err(StartError::Threads)?,
        };
        let mut checked = server.check(&self.gateways)?;
        for mount in self.mounts {
            checked.push(mount.checked()?);
        }
        server.put(checked)?;
        Ok(server)
    }
}

impl Mount {
    fn checked(self) -> Result<Checked, StartError> {
        let setup = Setup::of_handler(self.handler, self.tls.as_ref(), self.limits);
        let setup = setup.map_err(|error| setup_error(&self.name, error))?;
        Ok(Checked {
            name: self.name,
            address: self.address,
            protocol: CheckedProtocol::Http(setup),
            is_mount: true,
        })
    }
}

impl Server {
    /// Returns a builder for a server that serves the functions in a table.
    pub fn builder(functions: &Functions) -> ServerBuilder {
        ServerBuilder {
            functions: functions.clone(),
            threads: runtime::THREADS,
            is_logged: false,
            gateways: Vec::new(),
            mounts: Vec::new(),
        }
    }

    /// Returns the listeners, in the order they were described.
    pub fn listening(&self) -> Vec<Listening> {
        let listening = |listener: &Listener| Listening {
            name: listener.name.clone(),
            address: listener.local,
        };
        self.listeners().iter().map(listening).collect()
    }

    /// Replaces the gateways. A gateway that listens on the same address as before keeps running,
    /// and its connections stay open. Later requests on these connections are answered according to
    /// the new description. A gateway that is no longer listed stops listening, and its connections
    /// have half a minute to finish.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Nothing has changed in that case.
    pub fn reload(&self, gateways: &[Gateway]) -> Result<(), StartError> {
        self.put(self.check(gateways)?)
    }

    /// Stops the server: no more connections or requests are accepted. Requests in progress may
    /// finish, but those that have not finished in time are cut off. Returns true if nothing had to
    /// be cut off. Blocks, so it must not be called from asynchronous code.
    ///
    /// To end everything immediately, call [`cut`](Server::cut) from another thread.
    pub fn stop(&self, within: Duration) -> bool {
        let stoppers = self.advance(Phase::Draining);
        let in_time = self.runtime.block_on(async {
            let closed = closed(&stoppers);
            tokio::time::timeout(within, closed).await.is_ok()
        });
        let was_cut = stoppers.iter().any(|stopper| stopper.is_cut());
        self.cut();
        self.listeners().clear();
        in_time && !was_cut
    }

    /// Ends everything immediately, including requests in progress. Returns when everything has
    /// ended, which takes at most one turn of a process. Blocks, so it must not be called from
    /// asynchronous code.
    pub fn cut(&self) {
        let stoppers = self.advance(Phase::Cut);
        self.runtime.block_on(closed(&stoppers));
    }

    /// Advances all listeners to a phase.
    fn advance(&self, phase: Phase) -> Vec<Arc<Stopper>> {
        let listeners = self.listeners();
        let stoppers = listeners.iter().map(|listener| listener.stopper.clone());
        stoppers.inspect(|stopper| stopper.advance(phase)).collect()
    }

    fn check(&self, gateways: &[Gateway]) -> Result<Vec<Checked>, StartError> {
        gateways
            .iter()
            .map(|gateway| self.check_one(gateway))
            .collect()
    }

    fn check_one(&self, gateway: &Gateway) -> Result<Checked, StartError> {
        let name = gateway.name.clone();
        for function in gateway.protocol.functions() {
            let Some(found) = self.functions.get(function.as_str()) else {
                return Err(StartError::NoFunction {
                    gateway: name,
                    function: function.clone(),
                });
            };
            if let Some(what) = objection(&gateway.protocol, function, found.version().code()) {
                return Err(StartError::Setup {
                    gateway: name,
                    what,
                });
            }
        }
        for directory in gateway.protocol.served_directories() {
            if let Err(error) = self.functions.check_directory(directory) {
                return Err(StartError::Setup {
                    gateway: name,
                    what: error.to_string(),
                });
            }
            // This fails if the directory does not exist, in which case it does not contain the
            // cache.
            let _ = self.functions.vm().expose(directory);
        }
        let protocol = match &gateway.protocol {
            Protocol::Http(http) => CheckedProtocol::Http(
                Setup::of_gateway(http).map_err(|error| setup_error(&name, error))?,
            ),
            Protocol::Tcp(tcp) => CheckedProtocol::Tcp(tcp.clone()),
        };
        Ok(Checked {
            name,
            address: gateway.address,
            protocol,
            is_mount: false,
        })
    }

    /// Runs exactly the given gateways.
    fn put(&self, checked: Vec<Checked>) -> Result<(), StartError> {
        let mut taken = HashSet::new();
        if let Some(twice) = checked
            .iter()
            .find(|one| one.address.port() != 0 && !taken.insert(one.address))
        {
            return Err(StartError::Twice {
                gateway: twice.name.clone(),
                address: twice.address,
            });
        }
        let mut listeners = self.listeners();
        let is_same = |listener: &Listener, checked: &Checked| {
            let is_same_port = checked.address.port() != 0 || listener.name == checked.name;
            listener.reserved.is_none() && listener.configured == checked.address && is_same_port
        };
        // Everything that can fail happens before anything is changed.
        let mut sockets = Vec::new();
        for one in &checked {
            let is_new = !listeners.iter().any(|listener| is_same(listener, one));
            sockets.push(if is_new {
                Some(self.listen(one)?)
            } else {
                None
            });
        }
        let (mounts, mut before): (Vec<_>, Vec<_>) = listeners
            .drain(..)
            .partition(|listener| listener.reserved.is_some());
        for (one, socket) in checked.into_iter().zip(sockets) {
            let Some((socket, local)) = socket else {
                let index = before
                    .iter()
                    .position(|listener| is_same(listener, &one))
                    .expect("only unchanged gateways have no new socket");
                let mut same = before.swap_remove(index);
                let mut acceptor = same
                    .acceptor
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                *acceptor = self.acceptor(&one.name, one.protocol, Some(&acceptor));
                drop(acceptor);
                same.name = one.name;
                listeners.push(same);
                continue;
            };
            let (stopper, stop) = Stopper::new();
            let acceptor = self.acceptor(&one.name, one.protocol, None);
            let acceptor = Arc::new(RwLock::new(acceptor));
            self.runtime.spawn(accept(
                socket,
                acceptor.clone(),
                self.functions.clone(),
                stop,
            ));
            listeners.push(Listener {
                name: one.name,
                configured: one.address,
                local,
                acceptor,
                stopper: Arc::new(stopper),
                reserved: one.is_mount.then(|| Reserved::new(local)),
            });
        }
        listeners.extend(mounts);
        for removed in before {
            self.runtime.spawn(drain(removed.stopper));
        }
        Ok(())
    }

    fn listen(&self, gateway: &Checked) -> Result<(TcpListener, SocketAddr), StartError> {
        let _runtime = self.runtime.enter();
        let listen = || {
            let socket = if gateway.address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            socket.set_reuseaddr(true)?;
            socket.bind(gateway.address)?;
            let listener = socket.listen(BACKLOG)?;
            let local = listener.local_addr()?;
            Ok((listener, local))
        };
        listen().map_err(|source| StartError::Bind {
            gateway: gateway.name.clone(),
            address: gateway.address,
            source,
        })
    }

    /// Returns the acceptor for a listener's connections, and starts anything that must be running
    /// before the first connection.
    fn acceptor(
        &self,
        name: &str,
        protocol: CheckedProtocol,
        before: Option<&Acceptor>,
    ) -> Acceptor {
        match (protocol, before) {
            (CheckedProtocol::Http(setup), Some(Acceptor::Http(http))) => {
                http.set_up(setup);
                http.begin();
                Acceptor::Http(http.clone())
            }
            (CheckedProtocol::Http(setup), _) => {
                let http = HttpListener::new(name, setup, &self.functions, self.is_logged);
                http.begin();
                Acceptor::Http(Arc::new(http))
            }
            (CheckedProtocol::Tcp(gateway), _) => {
                tcp::begin(&self.functions, &gateway.function);
                Acceptor::Tcp(Arc::new(gateway))
            }
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.advance(Phase::Cut);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listening", &self.listening())
            .finish_non_exhaustive()
    }
}

/// If a gateway cannot lead to a function, returns the reason.
fn objection(protocol: &Protocol, function: &Name, code: &Code) -> Option<String> {
    match (protocol, code) {
        (Protocol::Tcp(_), code) => tcp::objection(code)
            .map(|what| format!("the function `{function}` cannot serve connections: {what}")),
        (Protocol::Http(http), Code::Program(_)) if http.tls.is_some() => Some(format!(
            "the function `{function}` is a program, which receives raw connections: remove `tls`, and let the program itself speak TLS"
        )),
        (Protocol::Http(_), _) => None,
    }
}

fn setup_error(gateway: &str, error: SetupError) -> StartError {
    StartError::Setup {
        gateway: gateway.to_string(),
        what: error.to_string(),
    }
}

/// Waits until all connections have ended.
async fn closed(stoppers: &[Arc<Stopper>]) {
    for stopper in stoppers {
        stopper.closed().await;
    }
}

/// Ends the connections of a gateway that has been removed.
async fn drain(stopper: Arc<Stopper>) {
    stopper.advance(Phase::Draining);
    if tokio::time::timeout(DRAIN_TIMEOUT, stopper.closed())
        .await
        .is_err()
    {
        stopper.advance(Phase::Cut);
    }
}
