//! The smallest program. Running it takes the time that the machine itself needs to start.

fn main() {
    println!("Hello!");
}
