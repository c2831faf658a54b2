//! Prints the data that the tests in this crate check.

use lunatic_tidy::{Crate, RULES};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
usage: lunatic-tidy layers CRATE   which of a crate's files import each other in a cycle, and those imports
       lunatic-tidy count [DIR]    lines of code in each package, here or in another checkout";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["layers", directory] => layers(directory),
        ["count", "-h" | "--help"] => println!("{USAGE}\n\n{RULES}"),
        ["count"] => count(&lunatic_tidy::root()),
        ["count", directory] => count(Path::new(directory)),
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
        println!("{count} files, no cycles");
    }
}

/// Packages that are not shipped to users.
const NOT_SHIPPED: [&str; 2] = ["benches", "examples"];

fn count(directory: &Path) {
    let lines = lunatic_tidy::count(directory);
    for (package, lines) in &lines {
        println!("{lines:>7}  {package}");
    }
    let is_shipped = |package: &str| {
        let package = Path::new(package);
        !NOT_SHIPPED.iter().any(|other| package.starts_with(other))
    };
    let all: usize = lines.values().sum();
    let shipped = lines.iter().filter(|(package, _)| is_shipped(package));
    let shipped: usize = shipped.map(|(_, lines)| lines).sum();
    println!("{all:>7}  in total");
    println!("{shipped:>7}  without {}", NOT_SHIPPED.join(", "));
}
