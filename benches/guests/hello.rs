//! The smallest program. Running it takes hardly any longer than starting the machine.

fn main() {
    println!("Hello!");
}
