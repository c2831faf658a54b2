//! Tests components behind a gateway: the example in Rust, the example in Python, and a component
//! that misbehaves.

use crate::alone::{is_alone, resident};
use crate::guests;
use lunatic_serve::{
    Code, Directory, Functions, Gateway, HttpGateway, HttpLimits, Name, Policy, Protocol, Route,
    Server, Settings, Target,
};
use lunatic_vm::{Access, Host, Limit, Vm};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::time::Duration;

/// A timeout longer than any test should ever need to wait.
const NEVER: Duration = Duration::from_secs(120);

/// The functions of one VM, and a gateway that routes requests to them by name.
struct House {
    functions: Functions,
    misbehaving: Code,
    example: Code,
    server: Server,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    let functions = Functions::new(
        &Vm::builder()
            .host(host)
            .build()
            .expect("the VM can be built"),
    );
    let code = |bytes: &[u8]| {
        Code::new(functions.vm(), "guest", bytes).expect("the component handles requests")
    };
    let misbehaving = code(&guests::rust("serve/tests/guest", "guest.wasm"));
    let example = code(&guests::rust("examples/http-server", "http_server.wasm"));
    let routes = vec![Route {
        path: "/".into(),
        target: Target::Named,
    }];
    let http = HttpGateway {
        routes,
        tls: None,
        limits: HttpLimits::default(),
    };
    let address = "127.0.0.1:0".parse().expect("the address is valid");
    let gateway = Gateway {
        name: "components".into(),
        address,
        protocol: Protocol::Http(http),
    };
    let server = Server::builder(&functions)
        .gateway(gateway)
        .start()
        .expect("the server starts");
    House {
        functions,
        misbehaving,
        example,
        server,
    }
});

/// A response. It is incomplete if its body was cut short.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
    is_whole: bool,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }
}

fn settings(policy: Policy) -> Settings {
    Settings {
        policy,
        deadline: NEVER,
        client_secret: Some("THIS IS A SECRET!".into()),
        ..Settings::default()
    }
}

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("the count is not zero")
}

/// Adds a misbehaving function under a name that no other test uses.
fn put(name: &str, settings: Settings) {
    put_code(name, 1, &HOUSE.misbehaving, settings);
}

fn put_code(name: &str, number: u64, code: &Code, settings: Settings) {
    let name = Name::new(name).expect("the name is valid");
    let put = HOUSE.functions.put(
        &name,
        number,
        blake3::hash(name.as_str().as_bytes()),
        code.clone(),
        settings,
    );
    put.expect("the settings can be granted");
}

fn log(name: &str) -> String {
    let lines = HOUSE
        .functions
        .get(name)
        .expect("the function was added")
        .log()
        .lines();
    lines.iter().map(|line| format!("{line:?}\n")).collect()
}

/// Waits until all of a function's processes have ended. Each test has its own functions.
fn wait_until_gone(name: &str) {
    let version = HOUSE
        .functions
        .get(name)
        .expect("the function was added")
        .version();
    while version.environment().used(Limit::Processes) > 0 {
        std::thread::yield_now();
    }
}

fn connect() -> TcpStream {
    let stream =
        TcpStream::connect(HOUSE.server.listening()[0].address).expect("the server is listening");
    stream
        .set_read_timeout(Some(NEVER))
        .expect("the socket is open");
    stream
}

fn get(path: &str) -> Answer {
    ask("GET", path, "")
}

fn ask(method: &str, path: &str, fields: &str) -> Answer {
    let mut stream = connect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: test\r\n{fields}connection: close\r\n\r\n"
    )
    .expect("the server is reading");
    answer(stream, method == "HEAD")
}

/// Reads a response.
fn answer(stream: TcpStream, is_head: bool) -> Answer {
    let mut answer = Answer {
        status: 0,
        body: Vec::new(),
        is_whole: false,
    };
    let mut body = Vec::new();
    (answer.status, answer.is_whole) = read(&mut BufReader::new(stream), is_head, |piece| {
        body.extend_from_slice(piece)
    });
    answer.body = body;
    answer
}

/// Reads a response piece by piece. Returns the status, which is 0 if there is no response, and
/// whether the response is complete.
fn read(
    stream: &mut BufReader<TcpStream>,
    is_head: bool,
    mut each: impl FnMut(&[u8]),
) -> (u16, bool) {
    let Some(first) = line(stream) else {
        return (0, false);
    };
    let status = first
        .get(9..12)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("{first:?}"));
    let mut length = None;
    let mut is_chunked = false;
    loop {
        let field = line(stream).expect("the head is complete");
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(": ").expect("the line is a header field");
        match name {
            "content-length" => length = Some(value.parse().expect("the text is a number")),
            "transfer-encoding" => is_chunked = value == "chunked",
            _ => {}
        }
    }
    let mut take = |stream: &mut BufReader<TcpStream>, mut left: usize| {
        while left > 0 {
            let Ok(piece) = stream.fill_buf() else {
                return false;
            };
            let size = piece.len().min(left);
            if size == 0 {
                return false;
            }
            each(&piece[..size]);
            stream.consume(size);
            left -= size;
        }
        true
    };
    if is_head {
        return (status, true);
    }
    if !is_chunked {
        return (status, take(stream, length.unwrap_or(0)));
    }
    loop {
        let Some(size) = line(stream).and_then(|size| usize::from_str_radix(&size, 16).ok()) else {
            return (status, false);
        };
        if !take(stream, size) || line(stream).is_none() {
            return (status, false);
        }
        if size == 0 {
            return (status, true);
        }
    }
}

fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(_) if line.ends_with("\r\n") => Some(line.trim_end().to_string()),
        _ => None,
    }
}

/// Starts a server whose responses depend on the path. Each connection serves one request after
/// another.
fn serve_texts() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("the listener is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(first) = line(&mut stream) {
                    while line(&mut stream).is_some_and(|field| !field.is_empty()) {}
                    let path = first.split(' ').nth(1).unwrap_or_default();
                    let status = if path == "/missing" {
                        "404 Not Found"
                    } else {
                        "200 OK"
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{path}",
                        path.len()
                    );
                    stream
                        .get_mut()
                        .write_all(answer.as_bytes())
                        .expect("the server is reading");
                }
            });
        }
    });
    address
}

/// Checks what both examples have in common.
fn check_example(name: &str, code: &Code, echoed: usize) {
    let local = serve_texts();
    let outbound = vec![local.to_string().parse().expect("the rule is valid")];
    put_code(
        name,
        1,
        code,
        Settings {
            outbound,
            private_addresses: true,
            body: u64::MAX,
            ..settings(Policy::Fresh)
        },
    );
    let path = |path: &str| format!("/{name}{path}");
    let secret = get(&path("/secret"));
    assert_eq!(
        (secret.status, secret.text()),
        (200, "THIS IS A SECRET!"),
        "{}",
        log(name)
    );
    assert_eq!(get(&path("/other")).status, 400);
    assert_eq!(
        ask("POST", &path("/secret"), "content-length: 0\r\n").status,
        400
    );

    // The body is larger than what the component can hold in memory at once.
    let mut stream = connect();
    write!(
        stream,
        "POST {} HTTP/1.1\r\nhost: test\r\ncontent-length: {echoed}\r\nconnection: close\r\n\r\n",
        path("/echo")
    )
    .expect("the server is reading");
    let mut writer = stream.try_clone().expect("the socket is open");
    let writing = std::thread::spawn(move || {
        let piece: Vec<u8> = (0..1 << 16).map(|place: u32| (place % 251) as u8).collect();
        for place in (0..echoed).step_by(piece.len()) {
            writer
                .write_all(&piece[..piece.len().min(echoed - place)])
                .expect("the server is reading");
        }
    });
    let mut place = 0;
    let (status, is_whole) = read(&mut BufReader::new(stream), false, |piece| {
        for &byte in piece {
            assert_eq!(byte, (place % (1 << 16) % 251) as u8, "at {place}");
            place += 1;
        }
    });
    assert_eq!(
        (status, is_whole, place),
        (200, true, echoed),
        "{}",
        log(name)
    );
    writing.join().expect("the writing thread does not panic");

    let fields = format!(
        "url: http://{local}/a?b\r\nurl: http://{local}/missing\r\nurl: http://10.0.0.1/\r\n"
    );
    let hashes = ask("GET", &path("/hash-all"), &fields);
    assert_eq!(
        (hashes.status, hashes.is_whole),
        (200, true),
        "{}",
        log(name)
    );
    let lines: Vec<&str> = hashes.text().lines().collect();
    // The hash of the text at `/a?b`.
    let digest = "b327ee90239a59ae9ec2875c84b5b8d4003059befc270d37480e5bb22431b960";
    assert_eq!(lines[0], format!("http://{local}/a?b: {digest}"));
    assert_eq!(
        lines[1],
        format!("http://{local}/missing: unexpected status: 404")
    );
    assert!(
        lines[2].starts_with("http://10.0.0.1/: failed: "),
        "{lines:?}"
    );
}

#[test]
fn the_example_in_rust_works() {
    check_example("example-in-rust", &HOUSE.example, 100 << 20);
}

/// The example in Python, if it can be built on this computer.
static PYTHON: LazyLock<Option<Code>> = LazyLock::new(|| {
    let bytes = guests::python()?;
    Some(Code::new(HOUSE.functions.vm(), "python", &bytes).expect("the component handles requests"))
});

#[test]
fn the_example_in_python_works() {
    let Some(code) = &*PYTHON else { return };
    check_example("example-in-python", code, 8 << 20);
}

#[test]
fn many_requests_to_a_python_function_need_no_new_deploy() {
    let Some(code) = &*PYTHON else { return };
    put_code("python-for-ever", 1, code, settings(Policy::Fresh));
    for number in 0..1_000 {
        assert_eq!(
            get("/python-for-ever/secret").status,
            200,
            "request {number}: {}",
            log("python-for-ever")
        );
    }
}

#[test]
fn the_limits_of_rvm_are_enough_for_each_request_to_python() {
    let Some(code) = &*PYTHON else { return };
    for (name, policy) in [("rvm-fresh", Policy::Fresh), ("rvm-single", Policy::Single)] {
        put_code(
            name,
            1,
            code,
            Settings {
                memory: 268_000 * 1000,
                compute: Some(1_000),
                ..settings(policy)
            },
        );
        // RVM's own instance runs out of fuel after 232 requests.
        for number in 0..300 {
            let path = format!("/{name}/secret");
            assert_eq!(get(&path).status, 200, "request {number}: {}", log(name));
        }
    }
    // RVM documents exactly this limit but does not apply it.
    put_code(
        "rvm-literal",
        1,
        code,
        Settings {
            memory: 268 << 10,
            ..settings(Policy::Fresh)
        },
    );
    assert_eq!(get("/rvm-literal/secret").status, 503);
    let told = log("rvm-literal");
    assert!(
        told.contains("limited to 274432 bytes") && told.contains("are needed"),
        "{told}"
    );
}

#[test]
fn fifty_python_functions_can_run_at_once() {
    let Some(code) = &*PYTHON else { return };
    let names: Vec<String> = (0..50).map(|number| format!("python-{number}")).collect();
    for name in &names {
        put_code(name, 1, code, settings(Policy::Single));
        assert_eq!(get(&format!("/{name}/secret")).status, 200, "{}", log(name));
    }
    for name in &names {
        let version = HOUSE
            .functions
            .get(name)
            .expect("the function was added")
            .version();
        assert_eq!(version.environment().used(Limit::Processes), 1, "{name}");
    }
}

/// Checks how a request ends, and that the next request is answered.
fn check(name: &str, settings: Settings, path: &str, status: u16, told: &str) {
    put(name, settings);
    let answer = get(&format!("/{name}{path}"));
    assert_eq!(answer.status, status, "{path}: {}", log(name));
    assert!(log(name).contains(told), "{path}: {}", log(name));
    let next = get(&format!("/{name}/hello"));
    assert_eq!(
        (next.status, next.text()),
        (200, "hello"),
        "after {path}: {}",
        log(name)
    );
}

#[test]
fn t135_a_request_gets_an_error_if_its_component_traps_before_the_head() {
    check(
        "trap-fresh",
        settings(Policy::Fresh),
        "/trap",
        500,
        "trapped",
    );
    check(
        "trap-single",
        settings(Policy::Single),
        "/trap",
        500,
        "trapped",
    );
}

#[test]
fn t135_an_answer_breaks_off_where_its_component_fails() {
    for (name, policy) in [
        ("breaks-fresh", Policy::Fresh),
        ("breaks-single", Policy::Single),
    ] {
        put(name, settings(policy));
        for path in ["/trap-later", "/unfinished", "/kept", "/short"] {
            let answer = get(&format!("/{name}{path}"));
            // A body whose length differs from the one stated in the head is detected before the
            // head is sent.
            let wanted = match path {
                "/short" => (502, true),
                _ => (200, false),
            };
            assert_eq!(
                (answer.status, answer.is_whole),
                wanted,
                "{path}: {answer:?} {}",
                log(name)
            );
            let next = get(&format!("/{name}/hello"));
            assert_eq!(
                (next.status, next.is_whole, next.text()),
                (200, true, "hello"),
                "after {path}"
            );
        }
        assert!(log(name).contains("trapped"), "{}", log(name));
    }
}

#[test]
fn t136_a_request_gets_an_error_if_its_component_does_not_answer() {
    check(
        "nothing-fresh",
        settings(Policy::Fresh),
        "/nothing",
        502,
        "without a response",
    );
    check(
        "nothing-single",
        settings(Policy::Single),
        "/nothing",
        502,
        "without a response",
    );
}

#[test]
fn t138_the_connection_field_cannot_remove_the_fields_that_frame_a_request() {
    put("fields", settings(Policy::Fresh));
    let mut stream = connect();
    let request = "POST /fields/fields HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\nx-gone: 1\r\n\
                   connection: close, content-length, host, transfer-encoding, x-gone\r\n\r\nab";
    stream
        .write_all(request.as_bytes())
        .expect("the server is reading");
    let answer = answer(stream, false);
    assert!(
        answer.text().contains("content-length: 2\n") && !answer.text().contains("x-gone"),
        "{answer:?}"
    );
}

#[test]
fn an_error_that_a_component_sets_determines_the_status() {
    check(
        "sets-an-error",
        settings(Policy::Fresh),
        "/error",
        500,
        "set explicitly",
    );
    check("sets-denied", settings(Policy::Single), "/denied", 403, "");
}

#[test]
fn t136_a_request_that_takes_too_long_is_ended_together_with_its_instance() {
    for (name, policy) in [
        ("late-fresh", Policy::Fresh),
        ("late-single", Policy::Single),
    ] {
        let soon = Settings {
            deadline: Duration::from_millis(300),
            ..settings(policy)
        };
        check(name, soon, "/spin", 504, "did not answer within");
        let answer = get(&format!("/{name}/spin-later"));
        assert_eq!(
            (answer.status, answer.is_whole),
            (200, false),
            "{}",
            log(name)
        );
        assert_eq!(get(&format!("/{name}/hello")).status, 200);
    }
}

#[test]
fn limits_apply_to_each_request_separately() {
    for (name, policy) in [
        ("limited-fresh", Policy::Fresh),
        ("limited-single", Policy::Single),
    ] {
        let limited = Settings {
            compute: Some(1_000),
            memory: 16 << 20,
            ..settings(policy)
        };
        check(name, limited.clone(), "/spin", 503, "compute");
        check(name, limited, "/grow", 503, "memory");
        // Each request uses far more than half of the compute that a single request may use.
        for _ in 0..4 {
            assert_eq!(get(&format!("/{name}/work")).status, 200, "{}", log(name));
        }
    }
}

#[test]
fn t137_an_instance_ends_when_its_client_disconnects() {
    for (name, policy) in [
        ("gone-fresh", Policy::Fresh),
        ("gone-single", Policy::Single),
    ] {
        put(name, settings(policy));
        for path in ["/spin", "/spin-later", "/flood"] {
            let mut stream = connect();
            write!(stream, "GET /{name}{path} HTTP/1.1\r\nhost: test\r\n\r\n")
                .expect("the server is reading");
            if path == "/spin" {
                let version = HOUSE
                    .functions
                    .get(name)
                    .expect("the function was added")
                    .version();
                while version.environment().used(Limit::Processes) == 0 {
                    std::thread::yield_now();
                }
            } else {
                stream
                    .read_exact(&mut [0; 15])
                    .expect("the response begins");
            }
            drop(stream);
            if path == "/spin" && policy == Policy::Single {
                // If the instance had not taken the request yet, it survives and serves this one.
                // Otherwise, a different instance does.
                assert_eq!(get(&format!("/{name}/count")).status, 200);
            } else {
                wait_until_gone(name);
            }
        }
    }
}

/// Returns settings that grant sockets and a directory that contains a file and many others with
/// long names.
fn granting(directory: &std::path::Path) -> Settings {
    std::fs::write(directory.join("f"), "x").expect("there is disk space");
    for number in 0..1_000 {
        let name = format!("{number}{}", "-".repeat(200));
        std::fs::write(directory.join(name), "").expect("there is disk space");
    }
    Settings {
        directories: vec![Directory {
            host: directory.to_path_buf(),
            guest: "/data".into(),
            access: Access::Write,
        }],
        namespaces: vec!["wasi:sockets".into()],
        outbound: vec!["192.0.2.1".parse().expect("the rule is valid")],
        ..settings(Policy::Fresh)
    }
}

#[test]
fn whatever_a_component_makes_the_host_hold_is_limited() {
    const TEST: &str = "components::whatever_a_component_makes_the_host_hold_is_limited";
    if !is_alone(TEST) {
        return;
    }
    const ALLOWED: u64 = 8 << 20;
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    put(
        "holds",
        Settings {
            host_memory: ALLOWED,
            memory: 8 << 20,
            ..granting(directory.path())
        },
    );
    assert_eq!(get("/holds/hello").status, 200);
    let version = HOUSE
        .functions
        .get("holds")
        .expect("the function was added")
        .version();
    let most = resident() + ALLOWED + (24 << 20);
    for (path, status) in [
        // These reach the limit on the number of resources.
        ("/hold-empty-fields", 500),
        ("/hold-options", 500),
        ("/hold-pollables", 500),
        ("/hold-many-polls", 500),
        ("/hold-fields", 503),
        ("/hold-values", 503),
        ("/hold-copies", 503),
        ("/hold-paths", 503),
        ("/hold-methods", 503),
        ("/hold-authorities", 503),
        ("/hold-requests", 503),
        ("/hold-finished-requests", 503),
        ("/hold-calls", 503),
        ("/hold-responses", 503),
        ("/hold-streams", 503),
        ("/hold-listings", 503),
        ("/hold-output", 503),
    ] {
        let answer = get(&format!("/holds{path}"));
        assert_eq!(answer.status, status, "{path}: {}", log("holds"));
        assert!(resident() < most, "after {path}: {}", resident());
        wait_until_gone("holds");
        for limit in [Limit::TotalHostMemory, Limit::Descriptors, Limit::Sockets] {
            assert_eq!(
                version.environment().used(limit),
                0,
                "{limit:?} after {path}"
            );
        }
    }
}

#[test]
fn a_component_opens_exactly_as_much_as_it_may() {
    const TEST: &str = "components::a_component_opens_exactly_as_much_as_it_may";
    if !is_alone(TEST) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let granted = granting(directory.path());
    for (name, allowed) in [("opens", 40), ("opens-many", 10_000)] {
        put(
            name,
            Settings {
                descriptors: allowed,
                ..granted.clone()
            },
        );
    }
    for (path, opened) in [
        ("/opens/open-files", 40),
        ("/opens/open-directories", 40),
        // Each listing also keeps its directory open.
        ("/opens/open-listings", 20),
        // The listener counts too.
        ("/opens/open-tcp", 39),
        ("/opens/open-accepted", 19),
        ("/opens/open-udp", 40),
        // A process can have at most 256 files open.
        ("/opens-many/open-files", 256),
        ("/opens-many/open-listings", 128),
    ] {
        let answer = get(path);
        let (count, why) = answer.text().split_once(' ').expect("the reason follows");
        assert_eq!(count.parse(), Ok(opened), "{path}: {why}");
    }
    for name in ["opens", "opens-many"] {
        wait_until_gone(name);
        let version = HOUSE
            .functions
            .get(name)
            .expect("the function was added")
            .version();
        assert_eq!(version.environment().used(Limit::Descriptors), 0);
    }
    let files = std::fs::read_dir("/proc/self/fd").expect("Linux has this directory");
    let opened = files.filter_map(|file| file.ok()?.path().read_link().ok());
    let left: Vec<_> = opened
        .filter(|path| path.starts_with(directory.path()) && path != directory.path())
        .collect();
    assert!(left.is_empty(), "{left:?} are still open");
}

#[test]
fn a_single_instance_keeps_its_state_until_it_fails() {
    put("single", settings(Policy::Single));
    let served = |method: &str| ask(method, "/single/count", "");
    assert_eq!(served("GET").text(), "1");
    assert_eq!(served("HEAD").status, 200);
    assert_eq!(get("/single/exact").text(), "begun");
    assert_eq!(get("/single/after").text(), "answered");
    assert_eq!(served("GET").text(), "5");
    assert_eq!(get("/single/trap").status, 500);
    assert_eq!(served("GET").text(), "1");
    put("fresh", settings(Policy::Fresh));
    for _ in 0..3 {
        assert_eq!(get("/fresh/count").text(), "1");
    }
}

#[test]
fn a_pool_serves_as_many_requests_at_once_as_it_has_instances() {
    put("pool", settings(Policy::Pool(count(2))));
    let begin = || {
        let mut stream = connect();
        write!(stream, "POST /pool/wait HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\nconnection: close\r\n\r\n")
            .expect("the server is reading");
        stream
    };
    let mut waiting: Vec<TcpStream> = (0..4).map(|_| begin()).collect();
    let version = HOUSE
        .functions
        .get("pool")
        .expect("the function was added")
        .version();
    let instances = || version.environment().used(Limit::Processes);
    while instances() < 2 {
        std::thread::yield_now();
    }
    for stream in &mut waiting {
        stream.write_all(b"x").expect("the server is reading");
    }
    for stream in waiting {
        assert_eq!(answer(stream, false).text(), "it came", "{}", log("pool"));
    }
    assert_eq!(instances(), 2);
}

#[test]
fn t157_instances_of_a_replaced_version_end_when_they_are_idle() {
    put("replaced", settings(Policy::Single));
    assert_eq!(get("/replaced/count").text(), "1");
    let environment = HOUSE
        .functions
        .get("replaced")
        .expect("the function was added")
        .version()
        .environment()
        .clone();
    assert_eq!(environment.used(Limit::Processes), 1);
    put_code("replaced", 2, &HOUSE.misbehaving, settings(Policy::Single));
    assert_eq!(get("/replaced/count").text(), "1");
    while environment.used(Limit::Processes) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn t116_a_function_can_call_only_the_hosts_that_it_may_call() {
    let local = serve_texts();
    let call = format!("/call/{local}");
    let allowed = || vec![local.to_string().parse().expect("the rule is valid")];
    for (name, outbound, private_addresses, told) in [
        (
            "calls-nobody",
            Vec::new(),
            true,
            "ErrorCode::HttpRequestDenied",
        ),
        (
            "calls-public",
            allowed(),
            false,
            "ErrorCode::DestinationIpProhibited",
        ),
        ("calls-local", allowed(), true, "200"),
    ] {
        put(
            name,
            Settings {
                outbound,
                private_addresses,
                ..settings(Policy::Fresh)
            },
        );
        assert_eq!(get(&format!("/{name}{call}")).text(), told, "{}", log(name));
    }
}

#[test]
fn a_request_for_a_secret_that_is_not_set_fails() {
    put_code(
        "no-secret",
        1,
        &HOUSE.example,
        Settings {
            client_secret: None,
            ..settings(Policy::Fresh)
        },
    );
    assert_eq!(get("/no-secret/secret").status, 500);
    assert!(
        log("no-secret").contains("set `client_secret`"),
        "{}",
        log("no-secret")
    );
    put("product", settings(Policy::Fresh));
    assert_eq!(get("/product/product").text(), "42");
}

#[test]
fn a_function_can_call_a_host_function_of_the_embedder() {
    crate::host_function::main().expect("the example succeeds");
}
