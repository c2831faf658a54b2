//! Log lines on standard error: which ones are shown, and in what format.

use lunatic_vm::printable;
use std::io::Write;

/// Starts logging. Each record is written as a single line, no matter what it contains.
///
/// `RUST_LOG` determines what is shown. If it is not set, the number of `-v` flags does: without
/// any, warnings are shown; with one, also how every process ends; with two, everything the machine
/// does.
pub(crate) fn start(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "warn,lunatic::process=debug",
        _ => "warn,lunatic=trace",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default))
        .format(|line, record| {
            writeln!(
                line,
                "{}: {}",
                record.level().as_str().to_lowercase(),
                printable(&record.args().to_string())
            )
        })
        .init();
}
