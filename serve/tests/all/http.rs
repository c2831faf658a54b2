//! The HTTP gateway, over real sockets and with raw bytes.

use lunatic_serve::{
    Code, Functions, Gateway, HttpGateway, HttpLimits, Name, Protocol, Route, Server, Settings, Target, TlsFiles,
};
use lunatic_vm::{Host, Vm};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// What no test waits for.
const NEVER: Duration = Duration::from_secs(60);

/// Functions, and gateways to them.
struct House {
    functions: Functions,
    server: Server,
}

struct Plan {
    functions: Functions,
    routes: Vec<Route>,
    limits: HttpLimits,
    tls: Option<TlsFiles>,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("it is one")
}

impl Plan {
    fn new() -> Plan {
        let mut host = Host::default();
        lunatic_serve::add_to_host(&mut host);
        let vm = Vm::builder().host(host).build().expect("a machine");
        Plan { functions: Functions::new(&vm), routes: Vec::new(), limits: HttpLimits::default(), tls: None }
    }

    /// Adds a function, at the path of its name.
    fn function(mut self, text: &str, wat: &str, settings: Settings) -> Plan {
        put(&self.functions, text, 1, wat, settings);
        self.routes.push(Route { path: format!("/{text}"), target: Target::Function(name(text)) });
        self
    }

    fn files(mut self, path: &str, directory: &Path) -> Plan {
        self.routes.push(Route { path: path.into(), target: Target::Files(directory.into()) });
        self
    }

    fn named(mut self, path: &str) -> Plan {
        self.routes.push(Route { path: path.into(), target: Target::Named });
        self
    }

    fn limits(mut self, limits: HttpLimits) -> Plan {
        self.limits = limits;
        self
    }

    fn gateway(&self) -> Gateway {
        let http = HttpGateway { routes: self.routes.clone(), tls: self.tls.clone(), limits: self.limits.clone() };
        let address = "127.0.0.1:0".parse().expect("an address");
        Gateway { name: "test".into(), address, protocol: Protocol::Http(http) }
    }

    fn start(self) -> House {
        let server = Server::builder(&self.functions).gateway(self.gateway()).start().expect("it starts");
        House { functions: self.functions, server }
    }
}

fn put(functions: &Functions, text: &str, number: u64, wat: &str, settings: Settings) {
    let code = Code::new(functions.vm(), text, wat.as_bytes()).expect("it is a function");
    functions.put(&name(text), number, blake3::hash(wat.as_bytes()), code, settings).expect("settings that can be had");
}

impl House {
    fn address(&self) -> SocketAddr {
        self.server.listening()[0].address
    }

    fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// Sends bytes and returns everything that comes until the connection is closed.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be closed before all is sent.
        let _ = stream.write_all(bytes);
        rest(&mut stream)
    }

    fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(NEVER)).expect("it is a socket");
    stream
}

/// Returns everything that comes until the connection is closed.
fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    let digits = answer.strip_prefix("HTTP/1.1 ").or(answer.strip_prefix("HTTP/1.0 ")).and_then(|rest| rest.get(..3));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

const SILENT: &str = r#"(module (func (export "_start")))"#;

#[test]
fn a_function_that_ends_without_an_answer_is_answered_for() {
    let house = Plan::new().function("silent", SILENT, Settings::default()).start();
    let answer = house.get("/silent");
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("x-request-id: ") && answer.contains("the function did not answer (request "), "{answer}");
    assert_eq!(status(&house.get("/other")), 404);
    assert!(house.functions.get("silent").is_some());
}
