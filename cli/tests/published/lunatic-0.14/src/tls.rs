//! TLS on the loopback. The test lays `certificate.pem` and `key.pem` for `localhost` beside the program.

use crate::mailbox;
use lunatic::net::{TlsListener, TlsStream};
use lunatic::{Mailbox, Process};
use std::io::{Read, Write};
use std::time::Duration;

fn certificate() -> Vec<u8> {
    std::fs::read("certificate.pem").expect("the test laid it there")
}

/// Returns the port of a server that does with every stream what `serve` says.
fn serve(serve: fn(TlsStream, Mailbox<()>)) -> u32 {
    let mailbox = mailbox::<u16>();
    let serve = lunatic::function::FuncRef::new(serve);
    Process::spawn_link((mailbox.this(), serve), |(parent, serve), _: Mailbox<()>| {
        let key = std::fs::read("key.pem").expect("the test laid it there");
        let listener = TlsListener::bind("127.0.0.1:0", certificate(), key).expect("the system has a port");
        parent.send(listener.local_addr().expect("it listens somewhere").port());
        loop {
            // Who does not like the certificate fails to connect, and the next one comes.
            if let Ok((stream, _)) = listener.accept() {
                Process::spawn(stream, serve.get());
            }
        }
    });
    mailbox.receive().into()
}

fn echo(mut stream: TlsStream, _: Mailbox<()>) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("it is a time");
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer).expect("it is connected");
    stream.write_all(&buffer[..length]).expect("it is connected");
    stream.flush().expect("it is connected");
}

fn ask(mut stream: TlsStream) {
    stream.write_all(b"hello").expect("it is connected");
    stream.flush().expect("it is connected");
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).expect("it is connected");
    println!("{}", String::from_utf8_lossy(&buffer));
}

pub fn a_stream_is_encrypted() {
    let port = serve(echo);
    let stream = TlsStream::connect_with_certs("localhost", port, vec![certificate()]).expect("it is trusted");
    ask(stream);
    let stream = TlsStream::connect_timeout("localhost", Duration::from_secs(60), port, vec![certificate()]);
    ask(stream.expect("it is trusted"));
}

pub fn a_stream_is_handed_to_a_child() {
    let mailbox = mailbox::<()>();
    let port = serve(echo);
    let stream = TlsStream::connect_with_certs("localhost", port, vec![certificate()]).expect("it is trusted");
    Process::spawn_link((mailbox.this(), stream), |(parent, stream), _: Mailbox<()>| {
        ask(stream);
        parent.send(());
    });
    mailbox.receive();
}

pub fn an_untrusted_certificate_is_refused() {
    let port = serve(echo);
    println!("{}", TlsStream::connect("localhost", port).is_err());
    // The server is there for the next one.
    let stream = TlsStream::connect_with_certs("localhost", port, vec![certificate()]).expect("it is trusted");
    ask(stream);
}
