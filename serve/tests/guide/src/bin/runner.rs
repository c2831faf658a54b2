//! Runs the guide's functions, and answers with the results, one per line.

use embly::{Comm, Spark};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::time::Duration;

#[embly::spark]
fn entrypoint(comm: Comm) -> io::Result<()> {
    let mut lines = Vec::new();
    let mut say = |line: String| lines.push(line);

    let receive = Spark::run("receive", "one")?;
    say(format!(
        "receive waits for more: {}",
        Comm::wait_any(&[&receive], Some(Duration::ZERO))?.is_none()
    ));
    receive.write_all(b"two")?;
    say(format!(
        "receive has ended: {:?}, {}",
        receive.receive()?,
        receive.is_ended()
    ));

    let write = Spark::run("write", [])?;
    let mut buffer = Vec::new();
    while write.read_to_end(&mut buffer)? > 0 {
        say(format!(
            "write sent {:?}",
            String::from_utf8_lossy(&std::mem::take(&mut buffer))
        ));
    }

    let run = Spark::run("run", String::new())?;
    say(format!("run has ended: {:?}", run.receive()?));

    // The rest is not in the guide.
    let echo = Spark::run("maxmcd/foo", "first")?;
    write!(&echo, "{}-{}", 1, 2)?;
    echo.write_all(b"")?;
    let mut buffered = BufWriter::new(&echo);
    for _ in 0..3 {
        buffered.write_all(b"part.")?;
    }
    buffered.flush()?;
    echo.finish();
    while let Some(message) = echo.receive()? {
        say(format!("foo sent {:?}", String::from_utf8_lossy(&message)));
    }
    let reader = Spark::run("maxmcd/foo", "a line\nand another\n")?;
    say(format!(
        "a line: {:?}",
        BufReader::new(&reader).lines().next().transpose()?
    ));

    let failing = Spark::run("failing", "for a reason")?;
    let failure =
        Read::read_to_string(&mut &failing, &mut String::new()).expect_err("the spark fails");
    say(format!("failing: {failure}"));
    let panicking = Spark::run("failing", "panic")?;
    say(format!(
        "panicking: {}",
        panicking.receive().expect_err("the spark fails")
    ));
    let unknown = Spark::run("nobody", "").expect_err("no function has this name");
    say(format!("nobody: {:?}, {unknown}", unknown.kind()));
    let refused = Spark::run("http", "GET http://example.com/ HTTP/1.1\r\n\r\n")
        .expect_err("no rule permits the host");
    say(format!("http: {:?}, {refused}", refused.kind()));

    let (one, two) = (
        Spark::run("maxmcd/foo", [])?,
        Spark::run("maxmcd/foo", "x")?,
    );
    say(format!(
        "the second of two: {:?}",
        Comm::wait_any(&[&one, &two], None)?
    ));

    let text = lines.join("\n");
    write!(
        comm,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
}
