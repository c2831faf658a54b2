//! Prints what the tests of this crate check.

use lunatic_tidy::Crate;
use std::process::ExitCode;

const USAGE: &str = "usage: lunatic-tidy layers CRATE   the circles of a crate's files, and the imports that tie them";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["layers", directory] => layers(directory),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn layers(directory: &str) {
    let read = Crate::read(directory);
    let circles = read.circles();
    let count = read.files().len();
    for circle in &circles {
        println!("{} of {count} files:", circle.len());
        for tie in read.ties(circle) {
            println!("  {tie}");
        }
    }
    if circles.is_empty() {
        println!("{count} files, no circle");
    }
}
