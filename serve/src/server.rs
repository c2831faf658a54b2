//! Gateways that run.
//!
//! A [`Server`] owns the sockets that listen and the few threads on which their connections are read and written. It runs no
//! function: those run on the workers of the machine.

use crate::code::Code;
use crate::functions::Functions;
use crate::gateway::http::listener::HttpListener;
use crate::gateway::http::serve;
use crate::gateway::http::setup::{Handler, Setup, SetupError};
use crate::gateway::{Gateway, HttpGateway, HttpLimits, Protocol, TcpGateway, TlsFiles, tcp};
use crate::name::Name;
use crate::stop::{Phase, Stop, Stopper};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Handle, Runtime};

/// Threads that read and write connections.
const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("it is not zero");
/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 4096;
/// Threads for what blocks: files, certificates, and what the service compiles and stores.
const BLOCKING_THREADS: usize = 16;
/// How long the connections of a gateway that [`Server::reload`] takes away may go on.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long nothing is accepted after the system refused to.
const BREATH: Duration = Duration::from_millis(100);

/// Gateways that run. Dropping it closes everything at once; [`stop`](Server::stop) lets requests end.
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
/// assert!(server.stop(Duration::from_secs(10)), "nothing had to be cut");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    functions: Functions,
    is_logged: bool,
    running: Mutex<Vec<Running>>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

/// Says what a [`Server`] shall do before it does it.
pub struct ServerBuilder {
    functions: Functions,
    threads: NonZeroUsize,
    is_logged: bool,
    gateways: Vec<Gateway>,
    mounts: Vec<Mount>,
}

/// Something that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// What the gateway is called.
    pub name: String,
    /// Where it listens, with its true port.
    pub address: SocketAddr,
}

/// Gateways cannot be started. Then none is, and nothing of those that ran before has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be had.
    #[error("gateway `{gateway}` cannot listen on {address}: {source}")]
    Bind {
        /// Which gateway.
        gateway: String,
        /// Where it was to listen.
        address: SocketAddr,
        /// Why it cannot.
        source: io::Error,
    },
    /// Two gateways are to listen on one address.
    #[error("gateway `{gateway}` cannot listen on {address}: another of the gateways does")]
    Twice {
        /// The second of them.
        gateway: String,
        /// Where both were to listen.
        address: SocketAddr,
    },
    /// A gateway leads to a function that is not there.
    #[error(
        "gateway `{gateway}` leads to the function `{function}`, and there is none of that name"
    )]
    NoFunction {
        /// Which gateway.
        gateway: String,
        /// Which function.
        function: Name,
    },
    /// What the gateway is told to do cannot be done.
    #[error("gateway `{gateway}`: {what}")]
    Setup {
        /// Which gateway.
        gateway: String,
        /// What is wrong, and the remedy.
        what: String,
    },
    /// The system gives no threads.
    #[error("no threads for the gateways: {0}")]
    Threads(io::Error),
}

/// A listener with the machinery of an HTTP gateway, and a handler of its own in place of functions.
pub(crate) struct Mount {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) limits: HttpLimits,
    /// Bytes of a request's body.
    pub(crate) body: u64,
    /// How long a request may take, until its answer has been sent.
    pub(crate) deadline: Duration,
    pub(crate) handler: Handler,
}

/// A gateway that listens. Each of its connections holds a receiver of the phase, by which their end is known.
struct Running {
    name: String,
    /// Where it was told to listen.
    configured: SocketAddr,
    local: SocketAddr,
    speaks: Arc<RwLock<Speaks>>,
    phase: Arc<Stopper>,
    /// Whether it is no gateway, so that [`Server::reload`] lets it be.
    is_mount: bool,
}

/// What a listener's connections are given to.
#[derive(Clone)]
enum Speaks {
    Http(Arc<HttpListener>),
    Tcp(Arc<TcpGateway>),
}

/// A gateway whose description was found good.
struct Checked {
    name: String,
    address: SocketAddr,
    speaks: CheckedProtocol,
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

    /// Adds a listener with a handler of its own.
    pub(crate) fn mount(mut self, mount: Mount) -> ServerBuilder {
        self.mounts.push(mount);
        self
    }

    /// Sets how many threads read and write connections: 2 unless told otherwise. Functions run elsewhere.
    pub fn threads(mut self, threads: NonZeroUsize) -> ServerBuilder {
        self.threads = threads;
        self
    }

    /// Writes a line for each request, through `log`, with the target `access` and the level `info`. Off unless told otherwise.
    pub fn access_log(mut self, is_logged: bool) -> ServerBuilder {
        self.is_logged = is_logged;
        self
    }

    /// Has all gateways listen, or none. Blocks until they do.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the gateway, the address and the reason.
    pub fn start(self) -> Result<Server, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.threads.get())
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("gateway")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let server = Server {
            functions: self.functions,
            is_logged: self.is_logged,
            running: Mutex::default(),
            runtime: Some(runtime),
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
        let Mount {
            name,
            address,
            tls,
            limits,
            body,
            deadline,
            handler,
        } = self;
        let setup = Setup::of_handler(handler, body, deadline, tls.as_ref(), limits);
        let setup = setup.map_err(|error| setup_error(&name, error))?;
        Ok(Checked {
            name,
            address,
            speaks: CheckedProtocol::Http(setup),
            is_mount: true,
        })
    }
}

impl Server {
    /// Describes a server for the functions of a table.
    pub fn builder(functions: &Functions) -> ServerBuilder {
        ServerBuilder {
            functions: functions.clone(),
            threads: THREADS,
            is_logged: false,
            gateways: Vec::new(),
            mounts: Vec::new(),
        }
    }

    /// Returns what listens, in the order in which it was given.
    pub fn listening(&self) -> Vec<Listening> {
        let listening = |running: &Running| Listening {
            name: running.name.clone(),
            address: running.local,
        };
        self.running().iter().map(listening).collect()
    }

    /// Has other gateways run from now on. One that listens on the same address as before goes on, and its connections too:
    /// their next request is answered as the new description says. What is not among them stops to listen, and its
    /// connections have half a minute to end.
    ///
    /// # Errors
    ///
    /// [`StartError`]; then everything goes on as before.
    pub fn reload(&self, gateways: &[Gateway]) -> Result<(), StartError> {
        self.put(self.check(gateways)?)
    }

    /// Stops: accepts nothing more, lets the requests that are being served end, and cuts what has not ended within the time.
    /// Returns whether nothing had to be cut. Blocks; must not be called from asynchronous code.
    ///
    /// [`cut`](Server::cut), from another thread, ends it at once.
    pub fn stop(&self, within: Duration) -> bool {
        let ending: Vec<Arc<Stopper>> =
            self.running().iter().map(|one| one.phase.clone()).collect();
        for phase in &ending {
            phase.advance(Phase::Draining);
        }
        let closed = async {
            for phase in &ending {
                phase.closed().await;
            }
        };
        let in_time = self
            .handle()
            .block_on(async { tokio::time::timeout(within, closed).await.is_ok() });
        let was_cut = ending.iter().any(|phase| phase.is_cut());
        self.cut();
        self.running().clear();
        in_time && !was_cut
    }

    /// Ends everything at once, requests that are being served too. Returns when all has ended, which takes no longer than a
    /// turn of what runs. Blocks; must not be called from asynchronous code.
    pub fn cut(&self) {
        let ending: Vec<Arc<Stopper>> =
            self.running().iter().map(|one| one.phase.clone()).collect();
        for phase in &ending {
            phase.advance(Phase::Cut);
        }
        self.handle().block_on(async {
            for phase in &ending {
                phase.closed().await;
            }
        });
    }

    /// Returns the runtime that connections are read and written on.
    pub(crate) fn handle(&self) -> &Handle {
        self.runtime
            .as_ref()
            .expect("it is there until the server is dropped")
            .handle()
    }

    fn check(&self, gateways: &[Gateway]) -> Result<Vec<Checked>, StartError> {
        gateways
            .iter()
            .map(|gateway| self.check_one(gateway))
            .collect()
    }

    fn check_one(&self, gateway: &Gateway) -> Result<Checked, StartError> {
        let name = gateway.name.clone();
        let check = |function: &Name| match self.functions.get(function.as_str()) {
            Some(_) => Ok(()),
            None => Err(StartError::NoFunction {
                gateway: name.clone(),
                function: function.clone(),
            }),
        };
        let speaks = match &gateway.protocol {
            Protocol::Http(http) => {
                http.functions().try_for_each(check)?;
                self.check_tls(&name, http)?;
                CheckedProtocol::Http(
                    Setup::of_gateway(http).map_err(|error| setup_error(&name, error))?,
                )
            }
            Protocol::Tcp(tcp) => {
                check(&tcp.function)?;
                self.check_code(&name, &tcp.function)?;
                CheckedProtocol::Tcp(tcp.clone())
            }
        };
        Ok(Checked {
            name,
            address: gateway.address,
            speaks,
            is_mount: false,
        })
    }

    /// Checks that a function takes connections.
    fn check_code(&self, gateway: &str, function: &Name) -> Result<(), StartError> {
        let Some(found) = self.functions.get(function.as_str()) else {
            return Ok(());
        };
        match tcp::objection(found.version().code()) {
            None => Ok(()),
            Some(objection) => {
                let what = format!("the function `{function}` takes no connections: {objection}");
                Err(StartError::Setup {
                    gateway: gateway.to_string(),
                    what,
                })
            }
        }
    }

    /// Checks that connections over TLS are not to be given to a program, which would see them as they are.
    fn check_tls(&self, gateway: &str, http: &HttpGateway) -> Result<(), StartError> {
        let is_program = |name: &&Name| {
            let function = self.functions.get(name.as_str());
            function.is_some_and(|function| matches!(function.version().code(), Code::Program(_)))
        };
        match http
            .functions()
            .find(is_program)
            .filter(|_| http.tls.is_some())
        {
            None => Ok(()),
            Some(function) => {
                let what = format!(
                    "the function `{function}` is a program, which is given connections as they are: leave `tls` out, and \
                     let the program speak it"
                );
                Err(StartError::Setup {
                    gateway: gateway.to_string(),
                    what,
                })
            }
        }
    }

    /// Has these run, and no other gateway.
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
        let mut running = self.running();
        let is_same = |running: &Running, checked: &Checked| {
            let is_place = checked.address.port() != 0 || running.name == checked.name;
            !running.is_mount && running.configured == checked.address && is_place
        };
        // Everything that can fail comes before anything is changed.
        let mut listeners = Vec::new();
        for one in &checked {
            let is_new = !running.iter().any(|running| is_same(running, one));
            listeners.push(if is_new {
                Some(self.listen(one)?)
            } else {
                None
            });
        }
        let (mounts, mut before): (Vec<_>, Vec<_>) =
            running.drain(..).partition(|running| running.is_mount);
        for (one, listener) in checked.into_iter().zip(listeners) {
            let Some((listener, local)) = listener else {
                let place = before
                    .iter()
                    .position(|running| is_same(running, &one))
                    .expect("it was found above");
                let mut same = before.swap_remove(place);
                let mut speaks = same.speaks.write().unwrap_or_else(PoisonError::into_inner);
                *speaks = self.speaks(&one.name, one.speaks, Some(&speaks));
                drop(speaks);
                same.name = one.name;
                running.push(same);
                continue;
            };
            let (stopper, stop) = Stopper::new();
            let speaks = Arc::new(RwLock::new(self.speaks(&one.name, one.speaks, None)));
            self.handle().spawn(accept(
                listener,
                speaks.clone(),
                self.functions.clone(),
                stop,
            ));
            let Checked {
                name,
                address: configured,
                is_mount,
                ..
            } = one;
            running.push(Running {
                name,
                configured,
                local,
                speaks,
                phase: Arc::new(stopper),
                is_mount,
            });
        }
        running.extend(mounts);
        for gone in before {
            self.handle().spawn(farewell(gone.phase));
        }
        Ok(())
    }

    fn listen(&self, gateway: &Checked) -> Result<(TcpListener, SocketAddr), StartError> {
        let _runtime = self.handle().enter();
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
        let error = |source| StartError::Bind {
            gateway: gateway.name.clone(),
            address: gateway.address,
            source,
        };
        listen().map_err(error)
    }

    fn speaks(&self, name: &str, checked: CheckedProtocol, before: Option<&Speaks>) -> Speaks {
        match (checked, before) {
            (CheckedProtocol::Http(setup), Some(Speaks::Http(http))) => {
                http.set_up(setup);
                http.begin();
                Speaks::Http(http.clone())
            }
            (CheckedProtocol::Http(setup), _) => {
                let http = HttpListener::new(name, setup, &self.functions, self.is_logged);
                http.begin();
                Speaks::Http(Arc::new(http))
            }
            (CheckedProtocol::Tcp(tcp), _) => {
                tcp::begin(&self.functions, &tcp.function);
                Speaks::Tcp(Arc::new(tcp))
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for running in self.running().drain(..) {
            running.phase.advance(Phase::Cut);
        }
        if let Some(runtime) = self.runtime.take() {
            // Dropping it as it is would wait for what blocks, and panic in asynchronous code.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listening", &self.listening())
            .finish_non_exhaustive()
    }
}

fn setup_error(gateway: &str, error: SetupError) -> StartError {
    StartError::Setup {
        gateway: gateway.to_string(),
        what: error.to_string(),
    }
}

/// Has the connections of a gateway that is gone end.
async fn farewell(phase: Arc<Stopper>) {
    phase.advance(Phase::Draining);
    if tokio::time::timeout(FAREWELL, phase.closed())
        .await
        .is_err()
    {
        phase.advance(Phase::Cut);
    }
}

/// Accepts connections until nothing new is to be begun.
async fn accept(
    listener: TcpListener,
    speaks: Arc<RwLock<Speaks>>,
    functions: Functions,
    mut stop: Stop,
) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.draining() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_connection(&error) {
                    log::warn!("no connection can be accepted for now: {error}");
                    tokio::time::sleep(BREATH).await;
                }
                continue;
            }
        };
        let speaks = speaks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(place) = Place::take(&connections, speaks.connections()) else {
            if let Speaks::Http(http) = &speaks {
                http.turn_away(&stream);
            }
            continue;
        };
        let (functions, stop) = (functions.clone(), stop.clone());
        tokio::spawn(async move {
            let mut cut = stop.clone();
            tokio::select! {
                biased;
                () = serve(speaks, functions, stream, client, stop) => {}
                () = cut.cut() => {}
            }
            drop(place);
        });
    }
}

async fn serve(
    speaks: Speaks,
    functions: Functions,
    stream: TcpStream,
    client: SocketAddr,
    stop: Stop,
) {
    // What is written is written at once: there is nothing that would fill a packet later.
    let _ = stream.set_nodelay(true);
    match speaks {
        Speaks::Http(http) => serve::serve(http, stream, client, stop).await,
        // They go on until they end by themselves or are cut.
        Speaks::Tcp(gateway) => tcp::serve(&functions, &gateway, stream, client).await,
    }
}

/// Whether it says something of one connection, and nothing of the next.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

impl Speaks {
    fn connections(&self) -> usize {
        match self {
            Speaks::Http(http) => http.connections(),
            Speaks::Tcp(gateway) => gateway.connections,
        }
    }
}

/// A place among the connections of a gateway.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(connections: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
        // One task takes places, so that between the two steps there can only be fewer connections.
        if connections.load(Ordering::SeqCst) >= most {
            return None;
        }
        connections.fetch_add(1, Ordering::SeqCst);
        Some(Place(connections.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
