//! The smallest program: running it costs what the machine itself needs to start.

fn main() {
    println!("Hello!");
}
