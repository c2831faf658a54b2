//! `lunatic::metrics`: a program's own metrics.

use crate::guest::kinds::Text;
use crate::guest::{Call, Failure};
use crate::metrics::Update;

/// The maximum length of a metric's name, in bytes.
const MAX_NAME: usize = 256;

pub(super) fn counter(call: &mut Call<'_>, name: Text, value: u64) -> Result<(), Failure> {
    update(call, name, Update::CounterTo(value))
}

pub(super) fn increment_counter(call: &mut Call<'_>, name: Text) -> Result<(), Failure> {
    update(call, name, Update::CounterBy(1))
}

pub(super) fn gauge(call: &mut Call<'_>, name: Text, value: f64) -> Result<(), Failure> {
    update(call, name, Update::GaugeTo(value))
}

pub(super) fn increment_gauge(call: &mut Call<'_>, name: Text, value: f64) -> Result<(), Failure> {
    update(call, name, Update::GaugeBy(value))
}

pub(super) fn decrement_gauge(call: &mut Call<'_>, name: Text, value: f64) -> Result<(), Failure> {
    update(call, name, Update::GaugeBy(-value))
}

pub(super) fn histogram(call: &mut Call<'_>, name: Text, value: f64) -> Result<(), Failure> {
    update(call, name, Update::Sample(value))
}

fn update(call: &mut Call<'_>, name: Text, update: Update) -> Result<(), Failure> {
    let name = call.short_text(name, MAX_NAME)?;
    if name.is_empty() {
        return Err(Failure::trap("the name of a metric must not be empty"));
    }
    let guest = call.guest();
    let (domain, all) = (guest.domain(), &guest.machine().metrics);
    domain
        .program()
        .metrics(all)
        .update(domain.quota(), &name, update);
    Ok(())
}
