//! `--metrics`: what the machine counts, for Prometheus to collect.
//!
//! A small HTTP server on a thread of its own: it has one page, and it never waits for anybody longer than it said.

use crate::failure::{Failure, not_started, tell};
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use lunatic_vm::Vm;
use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// The path of the page.
const PATH: &str = "/metrics";

/// The format of the page.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The time in which a request's head has to be there, and that in which everything about a connection is done.
const HEAD_TIME: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// The longest head of a request, in bytes, and the most header fields in it.
const MAX_HEAD: usize = 16 << 10;
const MAX_FIELDS: usize = 100;

/// So many are served at the same time; others are turned away.
const CONNECTIONS: usize = 16;

/// How long nobody is accepted after that failed, as it does where no descriptors are left.
const REST: Duration = Duration::from_millis(100);

/// Begins to serve, until the command ends. Tells where, if that was left open with port 0.
pub(super) fn serve(address: SocketAddr, vm: &Vm) -> Result<(), Failure> {
    let failed = |error| not_started(format!("metrics cannot be served at {address}: {error}"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    let listener = Async::new(listener).map_err(failed)?;
    let vm = vm.clone();
    let serving = std::thread::Builder::new().name("lunatic-metrics".into());
    serving
        .spawn(move || accept(&listener, &vm))
        .map_err(failed)?;
    if address.port() == 0 {
        tell(&format!("metrics are served at http://{at}{PATH}\n"));
    }
    Ok(())
}

/// Serves whoever connects.
fn accept(listener: &Async<TcpListener>, vm: &Vm) {
    let executor = LocalExecutor::new();
    let open = Rc::new(Cell::new(0));
    async_io::block_on(executor.run(async {
        loop {
            match listener.accept().await {
                Ok(_) if open.get() == CONNECTIONS => {}
                Ok((stream, _)) => {
                    open.set(open.get() + 1);
                    let (vm, open) = (vm.clone(), open.clone());
                    let connection = async move {
                        connection(stream, vm).await;
                        open.set(open.get() - 1);
                    };
                    executor.spawn(connection).detach();
                }
                Err(error) => {
                    log::debug!("nobody can connect to collect metrics: {error}");
                    Timer::after(REST).await;
                }
            }
        }
    }));
}

/// Answers one request, as every answer says that it is the last one.
async fn connection(mut stream: Async<TcpStream>, vm: Vm) {
    let served = async {
        let answer = read_head(&mut stream).or(async {
            Timer::after(HEAD_TIME).await;
            Ok(Some(Answer::TOO_SLOW))
        });
        let Some(answer) = answer.await? else {
            return Ok(());
        };
        stream.write_all(answer.text(&vm).as_bytes()).await?;
        // Whatever else comes is read, or the system would take the answer back.
        stream.get_ref().shutdown(Shutdown::Write)?;
        while stream.read(&mut [0; 1024]).await? > 0 {}
        io::Result::Ok(())
    };
    let time_is_over = async {
        Timer::after(CONNECTION_TIME).await;
        Ok(())
    };
    if let Err(error) = served.or(time_is_over).await {
        log::debug!("whoever collects metrics was not served: {error}");
    }
}

/// Reads a request's head and says what is answered; `None` where nobody asked for anything.
async fn read_head(stream: &mut Async<TcpStream>) -> io::Result<Option<Answer>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&piece[..length]);
        if let Some(answer) = Answer::to(&head) {
            return Ok(Some(answer));
        }
    }
}

/// What a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    /// What is said where it is not the page.
    sentence: &'static str,
}

impl Answer {
    const PAGE: Answer = Answer {
        status: "200 OK",
        sentence: "",
    };
    const MALFORMED: Answer = Answer {
        status: "400 Bad Request",
        sentence: "this is no HTTP request",
    };
    const ELSEWHERE: Answer = Answer {
        status: "404 Not Found",
        sentence: "metrics are at /metrics",
    };
    const NOT_GET: Answer = Answer {
        status: "405 Method Not Allowed",
        sentence: "metrics can be got with GET",
    };
    const TOO_SLOW: Answer = Answer {
        status: "408 Request Timeout",
        sentence: "the request took too long",
    };
    const TOO_LARGE: Answer = Answer {
        status: "431 Request Header Fields Too Large",
        sentence: "the request's head is too large",
    };

    /// Returns what is answered to a request that begins with these bytes; `None` where it is not known yet.
    fn to(head: &[u8]) -> Option<Answer> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Partial) if head.len() > MAX_HEAD => Some(Answer::TOO_LARGE),
            Ok(httparse::Status::Partial) => None,
            Ok(httparse::Status::Complete(_)) => {
                let path = request.path.unwrap_or_default();
                // A collector may ask with parameters, which mean nothing here.
                Some(match (path.split('?').next(), request.method) {
                    (Some(PATH), Some("GET")) => Answer::PAGE,
                    (Some(PATH), _) => Answer::NOT_GET,
                    _ => Answer::ELSEWHERE,
                })
            }
            Err(httparse::Error::TooManyHeaders) => Some(Answer::TOO_LARGE),
            Err(_) => Some(Answer::MALFORMED),
        }
    }

    /// Returns the whole answer.
    fn text(self, vm: &Vm) -> String {
        let page = if self == Answer::PAGE {
            vm.metrics()
        } else {
            format!("{}\n", self.sentence)
        };
        let allow = if self == Answer::NOT_GET {
            "allow: GET\r\n"
        } else {
            ""
        };
        let (status, length) = (self.status, page.len());
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {TEXT_FORMAT}\r\ncontent-length: {length}\r\n{allow}connection: close\r\n\r\n{page}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_when_its_head_is_there() {
        let get = "GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n";
        for length in 0..get.len() {
            assert_eq!(Answer::to(&get.as_bytes()[..length]), None, "{length}");
        }
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        for (request, expected) in [
            (get, Answer::PAGE),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", Answer::PAGE),
            ("GET /metric HTTP/1.1\r\n\r\n", Answer::ELSEWHERE),
            (
                "GET http://here/metrics HTTP/1.1\r\n\r\n",
                Answer::ELSEWHERE,
            ),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Answer::NOT_GET),
            ("GET /metrics HTTP/9\r\n\r\n", Answer::MALFORMED),
            ("\0\r\n\r\n", Answer::MALFORMED),
            (
                &format!("GET /metrics HTTP/1.1\r\n{fields}\r\n"),
                Answer::TOO_LARGE,
            ),
            (&format!("GET /{}", "x".repeat(MAX_HEAD)), Answer::TOO_LARGE),
        ] {
            assert_eq!(
                Answer::to(request.as_bytes()),
                Some(expected),
                "{request:?}"
            );
        }
    }
}
