//! A client with many connections on one thread, which treats every server the same way.

use crate::peers::Server;
use smol::LocalExecutor;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The number of connections that [`load`] opens.
pub const CONNECTIONS: usize = 1_000;

/// Returns the length of a response once enough of it has arrived to tell.
pub type Length = fn(&[u8]) -> Option<usize>;

/// Sends requests over all connections, each as soon as the previous one has been answered, and
/// returns the number of responses per second. All responses on a connection must have the same
/// length as the first.
///
/// # Panics
///
/// Panics if the server does not accept a connection, does not answer, or answers differently than
/// before.
pub fn load(server: &Server, request: &[u8], length: Length, time: Duration) -> f64 {
    load_over(CONNECTIONS, server, request, length, time)
}

/// Like [`load`], but over the given number of connections. With a single connection, the result
/// shows a response's latency.
///
/// # Panics
///
/// Panics in the same cases as [`load`].
pub fn load_over(
    connections: usize,
    server: &Server,
    request: &[u8],
    length: Length,
    time: Duration,
) -> f64 {
    let count = connections;
    let answers = Cell::new(0u64);
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let mut connections = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(&server.address)
                .await
                .expect("the server accepts connections");
            stream
                .set_nodelay(true)
                .expect("TCP streams have this option");
            let first = first(&mut stream, request, length).await;
            connections.push((stream, first));
        }
        let start = Instant::now();
        let clients: Vec<_> = connections
            .into_iter()
            .map(|(mut stream, first)| {
                let answers = &answers;
                executor.spawn(async move {
                    let mut answer = vec![0; first.len()];
                    // A date in the response may change, but the first line must not.
                    let line = first
                        .iter()
                        .position(|&byte| byte == b'\r')
                        .unwrap_or(first.len());
                    while start.elapsed() < time {
                        stream
                            .write_all(request)
                            .await
                            .expect("the server keeps the connection open");
                        stream
                            .read_exact(&mut answer)
                            .await
                            .expect("the server answers");
                        assert_eq!(
                            answer[..line],
                            first[..line],
                            "the server changed its response"
                        );
                        answers.set(answers.get() + 1);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
        answers.get() as f64 / start.elapsed().as_secs_f64()
    }))
}

/// Returns the length of an HTTP response once its head has arrived, or, if the response is
/// chunked, once it is complete.
///
/// # Panics
///
/// Panics if the status is not 200.
pub fn answer_length(answer: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    match fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        Some((_, value)) => Some(head.len() + 4 + value.trim().parse::<usize>().ok()?),
        // The last chunk is empty.
        None => text.ends_with("\r\n0\r\n\r\n").then_some(text.len()),
    }
}

/// Sends one request and returns the response.
async fn first(stream: &mut TcpStream, request: &[u8], length: Length) -> Vec<u8> {
    stream
        .write_all(request)
        .await
        .expect("the server keeps the connection open");
    let mut answer = Vec::new();
    loop {
        let mut more = [0; 4096];
        let count = stream.read(&mut more).await.expect("the server answers");
        assert!(
            count > 0,
            "the server closed the connection after {:?}",
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&more[..count]);
        if let Some(length) = length(&answer).filter(|&length| length <= answer.len()) {
            assert_eq!(
                answer.len(),
                length,
                "the server sent more than one response"
            );
            return answer;
        }
    }
}
