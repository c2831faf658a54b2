//! A small web server is a guest: one process per connection, which stays open for many requests.

use lunatic_benches::client::load;
use lunatic_benches::{Bar, Figures, Peer, Row, Server, command, promise};
use std::time::Duration;

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

fn main() {
    let depth = promise(
        "HTTP/1.1 hello from a guest, one process per connection, 1,000 connections that stay open",
    );
    let (erlang, go) = (Peer::erlang("http"), Peer::go("http"));
    let ours = Server::start(command("http"));
    let erlang = erlang.command(&[]).map(Server::start);
    // Go's own server of HTTP, and one that reads requests as ours does.
    let [go, raw] = ["net/http", "net"].map(|how| go.command(&[how]).map(Server::start));

    let time = depth.choose(Duration::from_secs(2), Duration::from_millis(100));
    let answers = |server: &Server| load(server, REQUEST, length, time);
    let mut figures = [const { Vec::new() }; 4].map(Figures::from_iter);
    for _ in 0..depth.choose(5, 1) {
        for (figures, server) in
            figures
                .iter_mut()
                .zip([Some(&ours), erlang.as_ref(), go.as_ref(), raw.as_ref()])
        {
            figures.extend(server.map(answers));
        }
    }
    let [ours, erlang, go, raw] = &figures;
    Row::new("answers", "/s", ours)
        .beside("Erlang", erlang)
        .print(Bar::AtLeastTimes(1.0));
    Row::new("answers", "/s", ours)
        .beside("Go's net/http", go)
        .beside("Go's net", raw)
        .print(Bar::AtLeastTimes(0.8));
}

/// Returns the length of an answer whose head has come.
fn length(answer: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    Some(head.len() + 4 + value.trim().parse::<usize>().ok()?)
}
