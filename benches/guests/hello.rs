//! The smallest program. Running it takes barely longer than starting the machine.

fn main() {
    println!("Hello!");
}
