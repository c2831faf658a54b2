//! Tests TCP on the loopback interface, with ports chosen by the system.

use lunatic::net::{resolve, resolve_timeout, TcpListener, TcpStream};
use lunatic::{process, Mailbox};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the system chooses a free port");
    let address = listener.local_addr().expect("the listener has an address");
    (listener, address)
}

/// Returns both ends of a connection.
fn connect() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let client = TcpStream::connect(address).expect("the listener exists");
    let (server, _) = listener.accept().expect("a client has connected");
    (client, server)
}

fn echo(mut stream: TcpStream, _: Mailbox<()>) {
    let mut lines = BufReader::new(stream.clone());
    let mut line = String::new();
    while lines.read_line(&mut line).expect("the reply is text") > 0 {
        stream.write_all(line.as_bytes()).expect("the socket is connected");
        stream.flush().expect("the socket is connected");
        line.clear();
    }
}

pub fn a_stream_is_handed_to_a_child() {
    let (mut client, server) = connect();
    process::spawn_with(server, echo).expect("this process may spawn");
    let mut lines = BufReader::new(client.clone());
    for word in ["first\n", "second\n"] {
        client.write_all(word.as_bytes()).expect("the socket is connected");
        let mut line = String::new();
        lines.read_line(&mut line).expect("the reply is text");
        print!("{line}");
    }
}

pub fn a_read_can_time_out() {
    let (mut client, mut server) = connect();
    server.set_read_timeout(Some(Duration::from_millis(1)));
    println!("{}", server.read(&mut [0]).is_err());
    server.set_read_timeout(None);
    client.set_write_timeout(Some(Duration::from_secs(60)));
    client.write_all(b"x").expect("the socket is connected");
    println!("{:?}", server.read(&mut [0]).ok());
}

pub fn connecting_without_a_listener_is_an_error() {
    let (listener, address) = listen();
    drop(listener);
    println!("{}", TcpStream::connect(address).is_err_and(|error| !error.to_string().is_empty()));
    let late = TcpStream::connect_timeout(address, Duration::from_secs(60));
    println!("{}", late.is_err_and(|error| !error.to_string().is_empty()));
}

pub fn a_name_is_resolved() {
    println!("{:?}", resolve("127.0.0.1:80").expect("the text is an address").collect::<Vec<_>>());
    println!(
        "{:?}",
        resolve_timeout("[::1]:80", Duration::from_secs(60)).expect("the text is an address").collect::<Vec<_>>()
    );
    println!("{}", resolve("localhost:80").expect("every system resolves this name").all(|address| address.ip().is_loopback()));
    println!("{}", resolve("no port").is_err_and(|error| !error.to_string().is_empty()));
}
