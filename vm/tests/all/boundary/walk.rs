//! One process calls a row many times. All memory that the host holds afterwards must be counted by
//! the process's environment.

use super::attack::{Attack, prepared_guest, valid_calls};
use crate::support::{Lab, is_alone, resident};
use lunatic_abi::Generation;
use lunatic_vm::{CallError, Environment, Exit, Limit, Module};

/// The number of calls to each row.
const CALLS: u32 = 3_000;

/// How many uncounted bytes a process may occupy. The limit on processes bounds the total.
const OF_PROCESS: u64 = 192 << 10;

/// How much memory, in bytes, the allocator and the operating system may keep for other reasons.
const SLACK: u64 = 8 << 20;

#[test]
fn everything_that_a_row_makes_the_host_hold_is_counted() {
    const TEST: &str = "boundary::walk::everything_that_a_row_makes_the_host_hold_is_counted";
    if !is_alone(TEST, &[]) {
        return;
    }
    for generation in [Generation::V0_13, Generation::V0_7] {
        let calls = valid_calls(generation);
        let lab = Lab::new();
        let module = lab.module(&prepared_guest(generation, &calls, CALLS));
        for (number, call) in calls.iter().enumerate() {
            // The time limit ends calls that wait.
            let environment = lab.environment_with(|config| {
                config
                    .limit(Limit::Time, 1_000)
                    .limit(Limit::Processes, 1_000);
            });
            if let Some((grown, counted)) = hold(&lab, &environment, &module, call, number) {
                assert!(
                    grown <= 2 * counted + SLACK,
                    "{call}: the host holds {grown} more bytes than before, but counts only {counted}"
                );
            }
            environment.end();
            lab.wait_for("the processes to end", environment.ended());
        }
    }
}

/// Makes the calls. Returns how many more bytes the host holds afterwards and how many it counts,
/// or `None` if the process has ended.
fn hold(
    lab: &Lab,
    environment: &Environment,
    module: &Module,
    call: &Attack,
    number: usize,
) -> Option<(u64, u64)> {
    let (tell, told) = async_channel::bounded(1);
    let (prepare, inner) = (call.prepare(), environment.clone());
    let counted = move || {
        inner.used(Limit::TotalHostMemory)
            + inner.used(Limit::TotalMemory)
            + inner.used(Limit::Processes) * OF_PROCESS
    };
    environment
        .drive(module, "walker", move |live| {
            Box::pin(async move {
                if let Err(error) = live.call(prepare, &[]).await {
                    return error.into_exit();
                }
                let before = resident();
                match live.call(&format!("attack{number}"), &[]).await {
                    Ok(_) | Err(CallError::Ended(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                let grown = resident().saturating_sub(before);
                let _ = tell.send((grown, counted())).await;
                Exit::Normal
            })
        })
        .expect("no limit applies");
    lab.wait_for("a walker", told.recv()).ok()
}
