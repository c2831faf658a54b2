//! Log lines on standard error: which are shown, and how they look.

use std::io::Write;

/// Begins to show log lines.
///
/// `RUST_LOG` decides which, and where it is not set the number of `-v`: none shows warnings, one shows the end of every
/// process, two show what the machine does besides.
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
                record.args()
            )
        })
        .init();
}
