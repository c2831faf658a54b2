//! The options of a bridge or worker as Elixir passes them: a map that has been validated and
//! completed.

use lunatic_bridge::{Backoff, Bridge, Builder, Intensity, Worker, WorkerBuilder};
use rustler::{Binary, Decoder, Error, NifMap, NifResult, Term};
use std::time::Duration;

/// The limits. Every key is present; `nil` means unlimited, or Rust's default.
#[derive(NifMap)]
pub(crate) struct Options {
    memory: u64,
    compute: Option<u64>,
    instances: usize,
    index: Option<u32>,
    allow: Vec<String>,
    start_within: u64,
    answer: usize,
    requires: Option<Vec<String>>,
    intensity: Option<Crashes>,
}

/// How often instances may crash. Times are in milliseconds.
#[derive(NifMap)]
struct Crashes {
    most: usize,
    period: u64,
    pause: u64,
    longest_pause: u64,
}

impl Options {
    /// Returns the maximum length of an argument, in bytes of JSON. Longer arguments would not fit
    /// into the guest's memory.
    pub(crate) fn most_argument(&self) -> usize {
        usize::try_from(self.memory).unwrap_or(usize::MAX)
    }

    /// Returns the maximum length of an answer, in bytes of JSON.
    pub(crate) fn most_answer(&self) -> usize {
        self.answer
    }

    pub(crate) fn builder(&self) -> Builder {
        let mut builder = Bridge::builder()
            .memory(self.memory)
            .instances(self.instances)
            .start_within(Duration::from_millis(self.start_within));
        if let Some(units) = self.compute {
            builder = builder.compute(units);
        }
        if let Some(index) = self.index {
            builder = builder.index(index);
        }
        for prefix in &self.allow {
            builder = builder.allow(prefix);
        }
        builder
    }

    pub(crate) fn worker(&self) -> WorkerBuilder {
        let mut worker = Worker::builder().bridge(self.builder());
        if let Some(required) = &self.requires {
            worker = worker.requires(required.iter().map(String::as_str));
        }
        if let Some(crashes) = &self.intensity {
            let intensity = Intensity {
                restarts: crashes.most,
                within: Duration::from_millis(crashes.period),
            };
            let backoff = Backoff {
                immediate: 1,
                first: Duration::from_millis(crashes.pause),
                most: Duration::from_millis(crashes.longest_pause),
            };
            worker = worker.intensity(intensity).backoff(backoff);
        }
        worker
    }
}

rustler::atoms! { file, binary }

/// Where a module comes from.
pub(crate) enum Source {
    File(String),
    Bytes(Vec<u8>),
}

impl<'a> Decoder<'a> for Source {
    fn decode(term: Term<'a>) -> NifResult<Source> {
        let (kind, what) = term.decode::<(Term, Binary)>()?;
        if file() == kind {
            let path = std::str::from_utf8(&what).map_err(|_| Error::BadArg)?;
            return Ok(Source::File(path.to_string()));
        }
        if binary() == kind {
            Ok(Source::Bytes(what.to_vec()))
        } else {
            Err(Error::BadArg)
        }
    }
}
