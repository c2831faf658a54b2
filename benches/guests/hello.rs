//! The smallest program. Running it takes hardly longer than the machine itself takes to start.

fn main() {
    println!("Hello!");
}
