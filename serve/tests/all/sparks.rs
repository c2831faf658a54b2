//! Tests functions in Rust behind a gateway: the guide's code, and other promises of the guest
//! library.

use crate::guests::guide;
use lunatic_serve::{
    Code, Functions, Gateway, HttpGateway, HttpLimits, Name, Protocol, Route, Server, Settings,
    Target,
};
use lunatic_vm::{Host, Vm};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn put(functions: &Functions, name: Name, file: &str) {
    let bytes = guide(file);
    let code = Code::new(functions.vm(), file, &bytes).expect("the module is a function");
    functions
        .put(&name, 1, blake3::hash(&bytes), code, Settings::default())
        .expect("the settings can be granted");
}

#[test]
fn the_functions_from_the_guide_work_as_the_guide_says() {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    let vm = Vm::builder()
        .host(host)
        .build()
        .expect("the VM can be built");
    let functions = Functions::new(&vm);
    for name in ["receive", "write", "run", "failing", "runner"] {
        put(
            &functions,
            Name::new(name).expect("the name is valid"),
            name,
        );
    }
    put(
        &functions,
        Name::owned("maxmcd", "foo").expect("the name is valid"),
        "foo",
    );
    let route = Route {
        path: "/".into(),
        target: Target::Function(Name::new("runner").expect("the name is valid")),
    };
    let http = HttpGateway {
        routes: vec![route],
        tls: None,
        limits: HttpLimits::default(),
    };
    let address = "127.0.0.1:0".parse().expect("the address is valid");
    let gateway = Gateway {
        name: "index".into(),
        address,
        protocol: Protocol::Http(http),
    };
    let server = Server::builder(&functions)
        .gateway(gateway)
        .start()
        .expect("the server starts");

    let mut stream =
        TcpStream::connect(server.listening()[0].address).expect("the server is listening");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("the socket is open");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .expect("the server is reading");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the server answers");
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .expect("the response has a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let lines: Vec<&str> = body.lines().collect();
    let expected = [
        "receive waits for more: true",
        "receive has ended: None, true",
        r#"write sent "Hello World""#,
        r#"write sent "HelloWorld""#,
        "run has ended: None",
        r#"foo sent "first""#,
        r#"foo sent "1-2""#,
        r#"foo sent """#,
        r#"foo sent "part.part.part.""#,
        r#"a line: Some("a line")"#,
        "failing: the function `failing` failed: for a reason",
    ];
    assert_eq!(lines[..expected.len()], expected, "{body}");
    for (line, (begin, part)) in lines[expected.len()..].iter().zip([
        ("panicking: the function `failing` trapped: ", "unreachable"),
        (
            "nobody: NotFound, ",
            "the project has no function named `nobody`",
        ),
        ("http: PermissionDenied, ", "may not be called"),
        ("the second of two: ", "Some(1)"),
    ]) {
        assert!(line.starts_with(begin) && line.contains(part), "{line}");
    }
    assert_eq!(lines.len(), expected.len() + 4, "{body}");

    // The logs contain what the functions print and how they fail.
    let has = |function: &str, text: &str| {
        let lines = functions
            .get(function)
            .expect("the function was added")
            .log()
            .lines();
        lines.iter().any(|line| line.text.contains(text))
    };
    assert!(has("maxmcd/foo", r#"foo got " foo""#));
    assert!(has("failing", "for a reason") && has("failing", "the message asks for a panic"));
    assert!(
        server.stop(Duration::from_secs(60)),
        "no connection is left"
    );
}
