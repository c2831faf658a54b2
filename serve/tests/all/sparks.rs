//! Functions in Rust behind a gateway: the guide's snippets, and what else the guest library
//! promises.

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
    let code = Code::new(functions.vm(), file, &bytes).expect("it is a function");
    functions
        .put(&name, 1, blake3::hash(&bytes), code, Settings::default())
        .expect("the settings need nothing");
}

#[test]
fn the_guide_s_functions_do_what_the_guide_says() {
    let mut host = Host::default();
    lunatic_serve::add_to_host(&mut host);
    let vm = Vm::builder().host(host).build().expect("a machine");
    let functions = Functions::new(&vm);
    for name in ["receive", "write", "run", "failing", "runner"] {
        put(
            &functions,
            Name::new(name).expect("it is a valid name"),
            name,
        );
    }
    put(
        &functions,
        Name::owned("maxmcd", "foo").expect("it is a valid name"),
        "foo",
    );
    let route = Route {
        path: "/".into(),
        target: Target::Function(Name::new("runner").expect("it is a valid name")),
    };
    let http = HttpGateway {
        routes: vec![route],
        tls: None,
        limits: HttpLimits::default(),
    };
    let address = "127.0.0.1:0".parse().expect("an address");
    let gateway = Gateway {
        name: "index".into(),
        address,
        protocol: Protocol::Http(http),
    };
    let server = Server::builder(&functions)
        .gateway(gateway)
        .start()
        .expect("it starts");

    let mut stream = TcpStream::connect(server.listening()[0].address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("it is a socket");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it has a head");
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
            "no function of the project is named `nobody`",
        ),
        ("http: PermissionDenied, ", "may not be called"),
        ("the second of two: ", "Some(1)"),
    ]) {
        assert!(line.starts_with(begin) && line.contains(part), "{line}");
    }
    assert_eq!(lines.len(), expected.len() + 4, "{body}");

    // The logs hold what functions print and how they fail.
    let has = |function: &str, text: &str| {
        let lines = functions.get(function).expect("it was put").log().lines();
        lines.iter().any(|line| line.text.contains(text))
    };
    assert!(has("maxmcd/foo", r#"foo got " foo""#));
    assert!(has("failing", "for a reason") && has("failing", "the message says so"));
    assert!(server.stop(Duration::from_secs(60)), "nothing is left");
}
