//! Claims about caught traps and about metrics.

use lunatic::metrics::{Counter, Gauge, Histogram};
use lunatic::{Config, Environment, ExitReason, Limit, Mailbox, Message, catch_trap};
use std::hint::black_box;
use std::rc::Rc;

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX {
        depth
    } else {
        black_box(depth) + recurse(black_box(depth + 1))
    }
}

/// Nests catches as deeply as possible and returns the depth.
fn nest(depth: u32) -> u32 {
    catch_trap(move || nest(depth + 1)).unwrap_or(depth)
}

claims! {
    fn a_catch_returns_the_result_of_the_function(_mailbox: Mailbox<()>) {
        let captured = ["a".to_string(), "b".to_string()];
        assert_eq!(catch_trap(move || captured.concat()).unwrap(), "ab");
        assert_eq!(catch_trap(|| ()), Ok(()));
    }

    fn every_panic_can_be_caught(_mailbox: Mailbox<()>) {
        for round in 0..20 {
            let numbers = [1, 2, 3];
            let index = black_box(round % 2) * 7;
            let caught = catch_trap(move || numbers[index]);
            assert_eq!(caught.is_err(), index == 7, "{round}");
        }
    }

    fn a_stack_overflow_can_be_caught(_mailbox: Mailbox<()>) {
        for _ in 0..3 {
            assert!(catch_trap(|| recurse(0)).is_err());
        }
    }

    fn catches_can_be_nested_only_up_to_a_limit(_mailbox: Mailbox<()>) {
        // The innermost of 16 nested calls is the one that traps.
        assert_eq!((nest(0), nest(0)), (15, 15));
    }

    fn values_that_the_function_owned_leak_and_shared_values_stay_intact(_mailbox: Mailbox<()>) {
        let shared = Rc::new("kept".to_string());
        let theirs = shared.clone();
        assert!(catch_trap(move || -> usize { panic!("{theirs}") }).is_err());
        assert_eq!((Rc::strong_count(&shared), shared.as_str()), (2, "kept"));
    }

    fn a_catch_can_wait_for_messages(mailbox: Mailbox<u8>) {
        lunatic::process::this(&mailbox).send(7);
        // SAFETY: the process's other mailbox is not used in the meantime.
        let received = catch_trap(|| unsafe { Mailbox::<u8>::new() }.receive().unwrap());
        assert_eq!(received, Ok(7));
    }

    fn a_limit_cannot_be_caught(mailbox: Mailbox<()>) {
        let mut config = Config::new(64 << 20, None);
        config.allow_namespace("").max_total_compute(10);
        let mut environment = Environment::new(config).unwrap();
        let module = environment.add_this_module().unwrap();
        let (_, mailbox) = module
            .spawn_link(mailbox, |_: Mailbox<()>| {
                let _ = catch_trap(|| loop {
                    black_box(());
                });
            })
            .unwrap();
        let Message::Signal(signal) = mailbox.receive() else { panic!("the process must die") };
        assert!(matches!(signal.reason, ExitReason::Limit(Some(Limit::TotalCompute))), "{signal}");
    }

    fn metrics_need_no_registration(_mailbox: Mailbox<()>) {
        Counter::new("claims_total").increment();
        Counter::new("claims_set").set(7);
        let gauge = Gauge::new("claims_gauge");
        gauge.set(1.0);
        gauge.add(f64::INFINITY);
        gauge.subtract(f64::NAN);
        Histogram::new("claims_seconds").record(-1.0);
        // An update that uses the name for a different kind of metric is dropped, and nothing
        // fails.
        Histogram::new("claims_total").record(1.0);
        assert!(catch_trap(|| Counter::new("").increment()).is_err());
    }
}
