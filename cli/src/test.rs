//! Runs a module's tests, each as a separate program, in one machine.
//!
//! A test is an exported function whose name marks it as a test (see [`name`]), or a Rust `#[test]`
//! that the module's `_start` lists and runs. Each test has its own environment, with its own
//! names, limits and output. Any processes it leaves behind are killed when it ends, unless the
//! tests share names and processes (`--shared`). The module is compiled only once.

mod case;
mod flags;
mod format;
mod harness;
mod leaks;
mod name;
mod outcome;
mod panic;
mod trial;

use crate::failure::{Failure, Outcome as Status, tell};
use crate::run::program::ENTRY;
use crate::stdout;
use case::{Body, Finished, Test};
use flags::{Color, Flags, Ignored, Request, Shuffle};
use format::{Summary, Writer};
use lunatic_vm::{Config, Limit, Module, Vm};
use outcome::Outcome;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use trial::{Common, Shared};

/// The exit status if a test failed or a flag is invalid. Rust's test programs use the same status.
pub(crate) const FAILED: i32 = 101;

/// How long a test may run before it is reported as slow.
const SLOW: Duration = Duration::from_secs(60);

/// Returns whether any of a module's exports are tests.
pub(crate) fn has_tests(exports: &[String]) -> bool {
    exports.iter().any(|export| name::read(export).is_some())
}

/// Runs a module's tests according to the arguments and returns the exit status. Each test uses
/// `config` and may take at most `timeout`.
pub(crate) fn test(
    vm: &Vm,
    module: &Module,
    config: &Config,
    timeout: Option<Duration>,
    arguments: &[String],
) -> Status {
    let request =
        flags::read(arguments, |name| std::env::var(name).ok()).map_err(|error| wrong(&error))?;
    let flags = match request {
        Request::Help => {
            write(&flags::help(module.name()))?;
            return Ok(0);
        }
        Request::Run(flags) => flags,
    };
    let mut config = config.clone();
    if let Some(bytes) = flags.memory {
        config.limit(Limit::Memory, bytes);
    }
    if !flags.shares {
        // Nothing outside a test sends messages to its processes, so a process waiting for a
        // message that can never arrive is detected.
        config.closed();
    }
    let common = Arc::new(Common {
        vm: vm.clone(),
        module: module.clone(),
        config,
        captures: flags.captures,
        timeout: flags.timeout.or(timeout),
        leaks: flags.leaks,
        shared: flags.shares.then(|| Shared::new(vm)),
    });
    let all = find(&common)?;
    let chosen = choose(&all, &flags);
    if flags.lists {
        write(&format::list(&chosen, flags.format))?;
        return Ok(0);
    }
    Ok(if run(&common, &all, chosen, &flags)? {
        0
    } else {
        FAILED
    })
}

fn wrong(error: &str) -> Failure {
    Failure::new(error).status(FAILED)
}

/// Writes to standard output. A closed pipe is not a failure, because the exit status reports the
/// result too.
fn write(text: &str) -> Result<(), Failure> {
    let written = stdout::print(text.as_bytes());
    written.map(drop).map_err(|failure| failure.status(FAILED))
}

/// Finds a module's tests, sorted by name.
fn find(common: &Common) -> Result<Vec<Test>, Failure> {
    let module = &common.module;
    let declared: Vec<_> = module
        .functions()
        .filter_map(|export| Some((export, name::read(export)?)))
        .collect();
    let of = name::common_crate(declared.iter().map(|(_, declaration)| &*declaration.path));
    let mut tests: Vec<Test> = declared
        .iter()
        .map(|(export, declaration)| {
            let declaration = declaration.clone();
            Test {
                name: declaration.path[of.len()..].to_string(),
                body: Body::Export(export.to_string()),
                is_ignored: declaration.is_ignored,
                why_ignored: declaration.why_ignored,
                panic: declaration.panic,
                timeout: declaration.timeout,
                memory: declaration.memory,
            }
        })
        .collect();
    tests.extend(of_the_harness(common, tests.is_empty())?);
    tests.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(tests)
}

/// Has the module's `_start` list its tests. A program that is not a Rust test program does not
/// have any, which is an error if `must_have_tests` is set.
fn of_the_harness(common: &Common, must_have_tests: bool) -> Result<Vec<Test>, Failure> {
    let has_entry = common.module.functions().any(|function| function == ENTRY);
    let lists = has_entry.then(|| {
        let both = futures_lite::future::zip(
            common.list(harness::LIST),
            common.list(harness::LIST_IGNORED),
        );
        common.vm.block_on(both)
    });
    let Some((Some(all), Some(ignored))) = lists else {
        if !must_have_tests {
            return Ok(Vec::new());
        }
        return Err(
            Failure::new(format!("`{}` has no tests", common.module.name()))
                .hint(
                    "build it with `cargo test --no-run`, or export tests with `#[lunatic::test]`",
                )
                .status(FAILED),
        );
    };
    let test = |name: String| Test {
        is_ignored: ignored.contains(&name),
        name,
        ..Test::default()
    };
    Ok(all.into_iter().map(test).collect())
}

/// Returns the tests selected by the flags.
fn choose<'a>(all: &'a [Test], flags: &Flags) -> Vec<&'a Test> {
    let matches = |test: &Test, filter: &String| {
        if flags.is_exact {
            test.name == *filter
        } else {
            test.name.contains(filter.as_str())
        }
    };
    let is_chosen = |test: &&Test| {
        (flags.filters.is_empty() || flags.filters.iter().any(|filter| matches(test, filter)))
            && !flags.skip.iter().any(|filter| matches(test, filter))
            && !(flags.excludes_panics && test.panic.is_some())
            && (flags.ignored != Ignored::RunOnly || test.is_ignored)
    };
    all.iter().filter(is_chosen).collect()
}

/// Shuffles tests into an order determined by the seed.
fn shuffle(tests: &mut [&Test], seed: u64) {
    let mut state = seed;
    // SplitMix64.
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    for last in (1..tests.len()).rev() {
        let other = next() % (last as u64 + 1);
        tests.swap(last, other as usize);
    }
}

/// A message to the runner from a thread that runs tests.
enum Event {
    Started(usize),
    Finished(usize, Finished),
}

/// Runs tests, reports on them, and returns whether all passed.
fn run(
    common: &Arc<Common>,
    all: &[Test],
    mut chosen: Vec<&Test>,
    flags: &Flags,
) -> Result<bool, Failure> {
    let seed = flags.shuffle.map(|shuffle| match shuffle {
        Shuffle::Seed(seed) => seed,
        Shuffle::Random => random(),
    });
    if let Some(seed) = seed {
        shuffle(&mut chosen, seed);
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = flags.threads.unwrap_or(cores);
    let mut writer = Writer {
        format: flags.format,
        is_colored: match flags.color {
            Color::Auto => flags.captures && std::io::stdout().is_terminal(),
            Color::Always => true,
            Color::Never => false,
        },
        reports_time: flags.reports_time,
        shows_output: flags.shows_output,
        is_parallel: threads > 1,
        total: chosen.len(),
        done: 0,
        column: 0,
    };
    let mut summary = Summary {
        filtered_out: all.len() - chosen.len(),
        ..Summary::default()
    };
    let mut out = String::new();
    writer.run_started(seed, &mut out);
    write(&out)?;

    let start = Instant::now();
    let queue = Queue::new(&chosen, flags);
    let events = queue.start(common, threads);
    // When each running test started, except for tests already reported as slow.
    let mut running = HashMap::new();
    while summary.finished.len() < chosen.len() {
        let next: Option<Instant> = running.values().min().map(|start: &Instant| *start + SLOW);
        let event = match next {
            Some(next) if writer.is_parallel => {
                events.recv_timeout(next.saturating_duration_since(Instant::now()))
            }
            _ => events
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        let mut out = String::new();
        match event {
            Ok(Event::Started(number)) => {
                running.insert(number, Instant::now());
                writer.test_started(chosen[number], &mut out);
            }
            Ok(Event::Finished(number, mut finished)) => {
                running.remove(&number);
                writer.test_finished(chosen[number], &finished, &mut out);
                if finished.outcome == Outcome::Passed && !flags.shows_output {
                    // This output will not be shown.
                    finished.output = String::new();
                }
                summary.count(chosen[number], finished);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                let mut slow: Vec<usize> = running
                    .iter()
                    .filter(|(_, start)| now >= **start + SLOW)
                    .map(|(number, _)| *number)
                    .collect();
                slow.sort_unstable();
                for number in slow {
                    running.remove(&number);
                    writer.is_slow(chosen[number], SLOW, &mut out);
                }
            }
            // One of the runner's threads panicked, and the panic has been printed.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                tell(
                    "error: the test run was interrupted; this is a bug in lunatic, please report it\n",
                );
                summary.failed += 1;
                break;
            }
        }
        write(&out)?;
        if flags.is_fail_fast && summary.failed > 0 {
            queue.is_over.store(true, Ordering::SeqCst);
            break;
        }
    }
    if let Some(shared) = &common.shared {
        common.vm.block_on(shared.end());
    }
    summary.time = start.elapsed();
    let mut out = String::new();
    writer.run_finished(&summary, &mut out);
    write(&out)?;
    Ok(summary.failed == 0)
}

impl<'a> Summary<'a> {
    fn count(&mut self, test: &'a Test, finished: Finished) {
        match &finished.outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(_) | Outcome::TimedOut(_) => self.failed += 1,
            Outcome::Ignored(_) => self.ignored += 1,
        }
        self.finished.push((test, finished));
    }
}

/// Returns a random number.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

/// The tests that have not started yet.
struct Queue {
    tests: Arc<[Test]>,
    runs_ignored: bool,
    runs_tests: bool,
    next: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Queue {
    fn new(chosen: &[&Test], flags: &Flags) -> Queue {
        Queue {
            tests: chosen.iter().map(|test| (*test).clone()).collect(),
            runs_ignored: flags.ignored != Ignored::NotRun,
            runs_tests: flags.runs_tests,
            next: Arc::default(),
            is_over: Arc::default(),
        }
    }

    /// Starts running tests on `threads` threads. Each thread waits for one test at a time while
    /// the machine's own threads run the test.
    fn start(&self, common: &Arc<Common>, threads: usize) -> mpsc::Receiver<Event> {
        let (sender, events) = mpsc::channel();
        for _ in 0..threads.min(self.tests.len()) {
            let (tests, next, is_over) =
                (self.tests.clone(), self.next.clone(), self.is_over.clone());
            let (runs_ignored, runs_tests) = (self.runs_ignored, self.runs_tests);
            let (common, sender) = (common.clone(), sender.clone());
            let work = move || {
                while !is_over.load(Ordering::SeqCst)
                    && let number = next.fetch_add(1, Ordering::SeqCst)
                    && let Some(test) = tests.get(number)
                {
                    // Without a receiver, the run is over.
                    let _ = sender.send(Event::Started(number));
                    let finished = if !runs_tests || test.is_ignored && !runs_ignored {
                        Finished::new(Outcome::Ignored(test.why_ignored.clone()))
                    } else {
                        common.vm.block_on(common.run(test))
                    };
                    let _ = sender.send(Event::Finished(number, finished));
                }
            };
            let thread = std::thread::Builder::new().name("lunatic-tests".into());
            if let Err(error) = thread.spawn(work) {
                log::debug!(
                    "fewer tests than requested run at the same time, because a thread cannot be \
                     started: {error}"
                );
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Flags {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        match flags::read(&arguments, |_| None) {
            Ok(Request::Run(flags)) => flags,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn suite() -> Vec<Test> {
        let test = |name: &str| Test {
            name: name.into(),
            ..Test::default()
        };
        let ignored = Test {
            is_ignored: true,
            ..test("b::ignored")
        };
        let panicking = Test {
            panic: Some(String::new()),
            ..test("b::panics")
        };
        vec![
            test("a::one"),
            test("a::one_more"),
            test("a::two"),
            ignored,
            panicking,
        ]
    }

    #[test]
    fn filters_select_tests() {
        let check = |line: &str, expected: &[&str]| {
            let suite = suite();
            let chosen: Vec<&str> = choose(&suite, &flags(line))
                .iter()
                .map(|test| &*test.name)
                .collect();
            assert_eq!(chosen, expected, "{line}");
        };
        check(
            "",
            &["a::one", "a::one_more", "a::two", "b::ignored", "b::panics"],
        );
        check("one", &["a::one", "a::one_more"]);
        check("one b::p", &["a::one", "a::one_more", "b::panics"]);
        check("a::one --exact", &["a::one"]);
        check("one --exact", &[]);
        check("a:: --skip one", &["a::two"]);
        check("a::one --skip a::one --exact", &[]);
        check("--ignored", &["b::ignored"]);
        check("--ignored a::", &[]);
        check("--include-ignored b", &["b::ignored", "b::panics"]);
        check("--exclude-should-panic b", &["b::ignored"]);
    }

    #[test]
    fn a_seed_determines_the_order() {
        let order = |seed| {
            let suite = suite();
            let mut tests: Vec<&Test> = suite.iter().collect();
            shuffle(&mut tests, seed);
            tests
                .iter()
                .map(|test| test.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        let orders: std::collections::HashSet<_> = (0..100).map(order).collect();
        assert!(orders.len() > 50, "{} orders of 120", orders.len());
        let mut sorted = order(5);
        sorted.sort();
        assert_eq!(
            sorted,
            suite()
                .iter()
                .map(|test| test.name.clone())
                .collect::<Vec<_>>()
        );
    }
}
