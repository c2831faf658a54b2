//! Log lines on standard error: which lines are shown, and in what format.

use lunatic_vm::printable;
use std::io::Write;

/// Starts logging. Each record is written as one line, no matter what the record contains.
///
/// `RUST_LOG` determines what is shown. If it is not set, the number of `-v` flags determines it.
/// Without a flag, warnings are shown. One flag also shows the end of every process, and two flags
/// show everything that the machine does.
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
