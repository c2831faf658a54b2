//! Answers an HTTP request, without any library. The request arrives on standard input, and the
//! response goes to standard output.

use std::io::{self, Read};

fn main() -> io::Result<()> {
    let mut request = String::new();
    io::stdin().read_to_string(&mut request)?;
    let path = request.split(' ').nth(1).unwrap_or("/");
    let greeting = std::env::var("GREETING").unwrap_or_default();
    let body = format!("{greeting} from {path}\n");
    print!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    Ok(())
}
