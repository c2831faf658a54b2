//! The smallest program: what it takes to run it is the machine's own start.

fn main() {
    println!("Hello!");
}
