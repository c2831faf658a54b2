//! Runs one of the kernels as a native program. Prints how many milliseconds the kernel took and
//! the low 32 bits of its result.
//!
//! The arguments are the kernel's name and the amount of work.

#[path = "../guests/kernels.rs"]
mod kernels;

use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, size] = &arguments[..] else {
        panic!("expected two arguments")
    };
    let size = size.parse().expect("the arguments are numbers");
    let (_, kernel, _) = kernels::KERNELS
        .into_iter()
        .find(|(known, ..)| known == name)
        .expect("the first argument names a kernel");
    let start = Instant::now();
    let result = kernel(size);
    println!(
        "{}\n{}",
        start.elapsed().as_secs_f64() * 1000.0,
        result as u32
    );
}
