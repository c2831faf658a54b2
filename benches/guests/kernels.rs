//! Small computations. Each is exported as a function. The parameter determines the amount of work,
//! and the result depends on the entire computation.
//!
//! They use only the standard library, so that this file can also be compiled as a native program.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hint::black_box;

/// A computation.
pub type Kernel = extern "C" fn(u32) -> u64;

/// All kernels by name, each with an amount of work that takes a few hundredths of a second.
pub const KERNELS: [(&str, Kernel, u32); 13] = [
    ("fibonacci", fibonacci, 32),
    ("collatz", collatz, 200_000),
    ("sort", sort, 400_000),
    ("tree", tree, 100_000),
    ("matrix", matrix, 256),
    ("hash", hash, 30_000_000),
    ("sieve", sieve, 5_000_000),
    ("mandelbrot", mandelbrot, 500),
    ("text", text, 500_000),
    ("words", words, 200_000),
    ("parse", parse, 200_000),
    ("allocate", allocate, 1_000_000),
    ("stream", stream, 2_000_000),
];

/// Returns the next pseudo-random number.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Makes function calls and does little else.
#[unsafe(no_mangle)]
pub extern "C" fn fibonacci(size: u32) -> u64 {
    fn fibonacci(number: u32) -> u64 {
        if number < 2 {
            u64::from(number)
        } else {
            fibonacci(black_box(number - 1)) + fibonacci(number - 2)
        }
    }
    fibonacci(size)
}

/// Runs a loop with an unpredictable number of iterations.
#[unsafe(no_mangle)]
pub extern "C" fn collatz(size: u32) -> u64 {
    let steps = |start: u64| {
        let (mut number, mut steps) = (start, 0);
        while number != 1 {
            number = if number.is_multiple_of(2) {
                number / 2
            } else {
                3 * number + 1
            };
            steps += 1;
        }
        steps
    };
    (1..=u64::from(size)).map(steps).sum()
}

/// Sorts random numbers.
#[unsafe(no_mangle)]
pub extern "C" fn sort(size: u32) -> u64 {
    let mut state = 1;
    let mut numbers: Vec<u64> = (0..size).map(|_| next(&mut state)).collect();
    numbers.sort();
    numbers[numbers.len() / 2]
}

/// Follows pointers in an ordered tree.
#[unsafe(no_mangle)]
pub extern "C" fn tree(size: u32) -> u64 {
    let mut state = 1;
    let tree: BTreeMap<u64, u32> = (0..size).map(|value| (next(&mut state), value)).collect();
    state = 1;
    (0..size).map(|_| u64::from(tree[&next(&mut state)])).sum()
}

/// Multiplies matrices in a tight inner loop.
#[unsafe(no_mangle)]
pub extern "C" fn matrix(size: u32) -> u64 {
    let size = size as usize;
    let left: Vec<f64> = (0..size * size).map(|index| index as f64).collect();
    let right = left.clone();
    let mut product = vec![0.0; size * size];
    for row in 0..size {
        for column in 0..size {
            product[row * size + column] = (0..size)
                .map(|middle| left[row * size + middle] * right[middle * size + column])
                .sum();
        }
    }
    product.iter().sum::<f64>().to_bits()
}

/// Computes a hash, one byte at a time.
#[unsafe(no_mangle)]
pub extern "C" fn hash(size: u32) -> u64 {
    let bytes: Vec<u8> = (0..size).map(|index| index as u8).collect();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The sieve of Eratosthenes.
#[unsafe(no_mangle)]
pub extern "C" fn sieve(size: u32) -> u64 {
    let mut is_crossed = vec![false; size as usize];
    let mut primes = 0;
    for number in 2..is_crossed.len() {
        if !is_crossed[number] {
            primes += 1;
            (number * 2..is_crossed.len())
                .step_by(number)
                .for_each(|multiple| is_crossed[multiple] = true);
        }
    }
    primes
}

/// Does floating-point arithmetic without accessing memory.
#[unsafe(no_mangle)]
pub extern "C" fn mandelbrot(size: u32) -> u64 {
    let inside = |column: u32, row: u32| {
        let (x, y) = (
            f64::from(column) * 3.0 / f64::from(size) - 2.0,
            f64::from(row) * 2.0 / f64::from(size) - 1.0,
        );
        let (mut real, mut imaginary) = (0.0, 0.0);
        (0..100).all(|_| {
            (real, imaginary) = (
                real * real - imaginary * imaginary + x,
                2.0 * real * imaginary + y,
            );
            real * real + imaginary * imaginary <= 4.0
        })
    };
    (0..size)
        .map(|row| (0..size).filter(|&column| inside(column, row)).count() as u64)
        .sum()
}

/// Formats and parses text, using the allocator.
#[unsafe(no_mangle)]
pub extern "C" fn text(size: u32) -> u64 {
    let mut text = String::new();
    for number in 0..size {
        let _ = write!(text, "{number} ");
    }
    text.split_whitespace()
        .map(|word| word.to_string().parse::<u64>().unwrap_or(0))
        .sum()
}

/// Counts words in a hash table.
#[unsafe(no_mangle)]
pub extern "C" fn words(size: u32) -> u64 {
    // The hasher has no random keys, so every run does the same work.
    let mut counts: HashMap<String, u64, std::hash::BuildHasherDefault<std::hash::DefaultHasher>> =
        HashMap::default();
    let mut state = 1;
    for _ in 0..size {
        *counts
            .entry(format!("word{}", next(&mut state) % 10_000))
            .or_default() += 1;
    }
    counts.values().map(|count| count * count).sum()
}

/// Parses nested lists of numbers recursively, one byte at a time.
#[unsafe(no_mangle)]
pub extern "C" fn parse(size: u32) -> u64 {
    /// Parses a number or a list. Returns the sum of its numbers and its length in bytes.
    fn value(text: &[u8]) -> (u64, usize) {
        if text[0] != b'[' {
            let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = text[..length].iter().fold(0, |number: u64, digit| {
                number * 10 + u64::from(digit - b'0')
            });
            return (number, length);
        }
        let (mut sum, mut position) = (0, 1);
        while text[position] != b']' {
            let (more, length) = value(&text[position..]);
            sum += more;
            position += length;
            if text[position] == b',' {
                position += 1;
            }
        }
        (sum, position + 1)
    }
    let mut state = 1;
    let mut text = String::from("[");
    for _ in 0..size {
        let number = next(&mut state);
        let _ = if number.is_multiple_of(3) {
            write!(text, "[{},{}],", number % 100, number % 1_000_000)
        } else {
            write!(text, "{},", number % 10_000)
        };
    }
    text.push(']');
    value(text.as_bytes()).0
}

/// Allocates blocks of different sizes and frees them in a different order.
#[unsafe(no_mangle)]
pub extern "C" fn allocate(size: u32) -> u64 {
    let mut state = 1;
    let mut blocks: Vec<Box<[u8]>> = (0..1_000).map(|_| Box::default()).collect();
    let mut sum = 0;
    for number in 0..size {
        let random = next(&mut state);
        let block = black_box(vec![number as u8; (random % 200) as usize + 1].into_boxed_slice());
        let old = std::mem::replace(&mut blocks[(random >> 32) as usize % 1_000], block);
        sum += old.first().map_or(0, |&byte| u64::from(byte));
    }
    sum
}

/// Makes several passes over memory, from start to end.
#[unsafe(no_mangle)]
pub extern "C" fn stream(size: u32) -> u64 {
    let from: Vec<u64> = (0..u64::from(size)).collect();
    let mut to = vec![0u64; from.len()];
    for round in 0..4 {
        to.iter_mut()
            .zip(&from)
            .for_each(|(to, from)| *to = to.wrapping_add(from.wrapping_mul(round)));
    }
    to.iter().fold(0, |sum, number| sum ^ number)
}
