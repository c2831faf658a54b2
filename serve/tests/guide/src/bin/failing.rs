//! A function that fails the way its message says.

use embly::Comm;

#[embly::spark]
fn main(comm: Comm) -> Result<(), String> {
    let mut why = String::new();
    comm.read_to_string(&mut why)
        .map_err(|error| error.to_string())?;
    assert_ne!(why, "panic", "the message asks for a panic");
    Err(why)
}
