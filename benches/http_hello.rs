//! The guest is a small web server with one process per connection. Each connection stays open for
//! many requests.

use lunatic_benches::client::{answer_length, load};
use lunatic_benches::{Bar, Peer, Row, Server, command, promise, side_by_side};
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
    // The peers are Go's own HTTP server and a Go server that parses requests the same way as the
    // guest.
    let [go, raw] = ["net/http", "net"].map(|how| go.command(&[how]).map(Server::start));

    let time = depth.choose(Duration::from_secs(2), Duration::from_millis(100));
    let answers = |server: &Server| load(server, REQUEST, answer_length, time);
    let [ours, erlang, go, raw] = side_by_side(
        depth.choose(5, 1),
        [
            &|| vec![answers(&ours)],
            &|| erlang.iter().map(answers).collect(),
            &|| go.iter().map(answers).collect(),
            &|| raw.iter().map(answers).collect(),
        ],
    );
    Row::new("responses", "/s", &ours)
        .beside("Erlang", &erlang)
        .print(Bar::AtLeastTimes(1.0));
    Row::new("responses", "/s", &ours)
        .beside("Go's net/http", &go)
        .beside("Go's net", &raw)
        .print(Bar::AtLeastTimes(0.8));
}
