//! Tests calls: arguments and results, the limits on a call, and the instance's state afterwards.

use lunatic_bridge::{Answer, Argument, Bridge, Builder, CallError, LoadError};
use lunatic_vm::{Exit, Limit, LimitReached, Vm};
use std::sync::Arc;
use std::time::Duration;

/// Functions that return a length.
const MODULE: &str = r#"(module
    (memory (export "memory") 2 4)
    (global $calls (mut i32) (i32.const 0))
    (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length))
    (func (export "spin") (param i32 i32) (result i32) (loop br 0) (i32.const 0))
    (func (export "trap") (param i32 i32) (result i32) unreachable)
    ;; Returns how many times this function was called, as a single digit.
    (func (export "count") (param $index i32) (param $length i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (local.get $index) (i32.add (global.get $calls) (i32.const 48)))
        (i32.const 1))
    ;; Returns the address that was passed to this function.
    (func (export "where") (param $index i32) (param $length i32) (result i32) (local $number i32) (local $end i32)
        (local.set $number (local.get $index))
        (local.set $end (i32.const 10))
        (loop $digit
            (local.set $end (i32.sub (local.get $end) (i32.const 1)))
            (i32.store8 (i32.add (local.get $index) (local.get $end))
                (i32.add (i32.rem_u (local.get $number) (i32.const 10)) (i32.const 48)))
            (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
            (br_if $digit (local.get $end)))
        ;; The address is returned as a string, because a JSON number cannot start with 0.
        (memory.copy (i32.add (local.get $index) (i32.const 1)) (local.get $index) (i32.const 10))
        (i32.store8 (local.get $index) (i32.const 34))
        (i32.store8 offset=11 (local.get $index) (i32.const 34))
        (i32.const 12))
    ;; Returns whether the last pixel of an image can be read.
    (func (export "last_pixel") (param $index i32) (param $length i32) (param $width i32) (param $height i32) (result i32)
        (i32.store8 (local.get $index) (i32.add (i32.const 48)
            (i32.load8_u (i32.add (local.get $index)
                (i32.sub (i32.mul (i32.mul (local.get $width) (local.get $height)) (i32.const 4)) (i32.const 1))))))
        (i32.const 1))
    (func (export "far") (param i32 i32) (result i32) (i32.const 0x7fffffff))
    (func (export "negative") (param i32 i32) (result i32) (i32.const -1))
    (func (export "floats") (param i32 i32) (result f64) (f64.const 1))
    (func (export "no_json") (param $index i32) (param i32) (result i32)
        (i32.store (local.get $index) (i32.const 0x004e614e)) (i32.const 3)))"#;

/// Returns a module whose `panic` function traps and whose `lunatic_panic` returns `place`.
fn panicking(place: i32) -> String {
    format!(
        r#"(module
        (memory (export "memory") 1)
        (data (i32.const 16) "\40\00\00\00\05\00\00\00") (data (i32.const 64) "words")
        (func (export "lunatic_panic") (result i32) (i32.const {place}))
        (func (export "panic") (param i32 i32) (result i32) unreachable))"#
    )
}

#[test]
fn a_panic_is_reported_in_its_own_words() {
    let error = |place| {
        let bridge = Bridge::from_bytes(panicking(place).as_bytes()).expect("the module is valid");
        let error = bridge
            .call::<_, ()>("panic", &())
            .expect_err("the function panics");
        assert!(matches!(error, CallError::Ended(_)), "{error}");
        error.to_string()
    };
    assert!(error(16).ends_with("trapped: words"), "{}", error(16));
    // No message, or an out-of-bounds address.
    for place in [0, i32::MAX - 3, -1] {
        assert!(error(place).contains("unreachable"), "{}", error(place));
    }
}

/// Functions that return an address and a length, with an allocator that always returns the same
/// address.
const ALLOCATING: &str = r#"(module
    (memory (export "memory") 3)
    (data (i32.const 0) "\00[1,2]\01\ff\fe\02no such thing\07")
    (global $freed (mut i32) (i32.const 0))
    (func (export "lunatic_alloc") (param $length i32) (result i32)
        (select (i32.const 4096) (i32.const 0) (i32.le_u (local.get $length) (i32.const 100000))))
    (func (export "lunatic_free") (param i32 i32) (global.set $freed (i32.add (global.get $freed) (i32.const 1))))
    (func $at (param $address i64) (param $length i64) (result i64)
        (i64.or (i64.shl (local.get $address) (i64.const 32)) (local.get $length)))
    (func (export "json") (param i32 i32) (result i64) (call $at (i64.const 0) (i64.const 6)))
    (func (export "bytes") (param i32 i32) (result i64) (call $at (i64.const 6) (i64.const 3)))
    (func (export "error") (param i32 i32) (result i64) (call $at (i64.const 9) (i64.const 14)))
    (func (export "nonsense") (param i32 i32) (result i64) (call $at (i64.const 23) (i64.const 1)))
    (func (export "nothing") (param i32 i32) (result i64) (call $at (i64.const 0) (i64.const 0)))
    (func (export "outside") (param i32 i32) (result i64) (call $at (i64.const 196607) (i64.const 2)))
    (func (export "freed") (param $index i32) (param i32) (result i32)
        (i32.store8 (local.get $index) (i32.add (global.get $freed) (i32.const 48))) (i32.const 1)))"#;

fn bridge(builder: Builder) -> Bridge {
    builder
        .from_bytes(MODULE.as_bytes())
        .expect("the module is valid")
}

#[test]
fn a_value_is_returned_unchanged() {
    let bridge = bridge(Bridge::builder());
    assert_eq!(
        bridge
            .call::<_, String>("echo", "Wörld")
            .expect("the call succeeds"),
        "Wörld"
    );
    assert_eq!(
        bridge
            .call::<_, u64>("echo", &u64::MAX)
            .expect("the call succeeds"),
        u64::MAX
    );
    let bytes = bridge
        .call_bytes("echo", b"\x00\xff")
        .expect("the call succeeds");
    assert_eq!(bytes, b"\x00\xff");
}

#[test]
fn arguments_never_overlap_the_modules_own_data() {
    let bridge = bridge(Bridge::builder());
    let address: String = bridge.call("where", &()).expect("the call succeeds");
    assert!(
        address.parse::<u32>().expect("the address is a number") >= 2 * 65536,
        "{address}"
    );
    let fixed = Bridge::builder()
        .index(42)
        .from_bytes(MODULE.as_bytes())
        .expect("the module is valid");
    assert_eq!(
        fixed
            .call::<_, String>("where", &())
            .expect("the call succeeds"),
        "0000000042"
    );
}

#[test]
fn an_argument_that_does_not_fit_is_refused_and_the_next_call_works() {
    for builder in [Bridge::builder(), Bridge::builder().index(42)] {
        let bridge = bridge(builder);
        let error = bridge
            .call_bytes("echo", &vec![b'x'; 300_000])
            .expect_err("the memory has at most four pages");
        assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
        assert_eq!(
            bridge.call::<_, u8>("echo", &7).expect("the call succeeds"),
            7
        );
    }
    let allocating = Bridge::from_bytes(ALLOCATING.as_bytes()).expect("the module is valid");
    let error = allocating
        .call_bytes("json", &[0; 200_000])
        .expect_err("the allocator has no room");
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
}

#[test]
fn growing_arguments_reuse_the_memory_of_earlier_ones() {
    let bridge = Bridge::builder()
        .memory(64 << 20)
        .from_bytes(MODULE.replace("2 4", "2").as_bytes())
        .expect("the module is valid");
    for length in (0..2_000_000).step_by(100_000) {
        let bytes = vec![b'x'; length];
        assert_eq!(
            bridge
                .call_bytes("echo", &bytes)
                .expect("there is room in the memory"),
            bytes
        );
    }
}

#[test]
fn t166_an_image_has_room_for_all_its_pixels() {
    let bridge = bridge(Bridge::builder());
    assert_eq!(
        bridge
            .call_image::<u8>("last_pixel", b"short", 64, 64)
            .expect("the image fits into memory"),
        0
    );
    for (width, height) in [(65535, 65535), (u32::MAX, u32::MAX), (20_000, 20_000)] {
        let error = bridge
            .call_image::<u8>("last_pixel", b"", width, height)
            .expect_err("no memory is that large");
        assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn results_with_an_address_state_their_kind() {
    let bridge = Bridge::from_bytes(ALLOCATING.as_bytes()).expect("the module is valid");
    assert_eq!(
        bridge
            .call::<_, [u8; 2]>("json", &())
            .expect("the call succeeds"),
        [1, 2]
    );
    let bytes = bridge
        .invoke("bytes", Argument::Bytes(Vec::new()))
        .expect("the call succeeds");
    assert_eq!(bytes, Answer::Bytes(vec![0xff, 0xfe]));
    let error = bridge
        .call::<_, ()>("error", &())
        .expect_err("the function fails");
    assert!(
        matches!(&error, CallError::Failed(text) if text == "no such thing"),
        "{error}"
    );
    for function in ["nonsense", "nothing", "outside"] {
        let error = bridge
            .call::<_, ()>(function, &())
            .expect_err("the result is malformed");
        assert!(matches!(error, CallError::Answer(_)), "{function}: {error}");
    }
    // The bridge has freed every nonempty, in-bounds result. This call's argument is freed only
    // after the call.
    assert_eq!(
        bridge
            .call::<_, u8>("freed", &())
            .expect("the call succeeds"),
        4
    );
}

#[test]
fn t166_malformed_answers_are_errors_and_the_next_call_works() {
    let bridge = bridge(Bridge::builder());
    for (function, said) in [
        ("far", "not all inside"),
        ("negative", "-1"),
        ("floats", "returns neither"),
        ("no_json", "expected value"),
    ] {
        let error = bridge
            .call::<_, f64>(function, &())
            .expect_err("the answer is malformed");
        assert!(matches!(error, CallError::Answer(_)), "{function}: {error}");
        assert!(error.to_string().contains(said), "{function}: {error}");
    }
    assert_eq!(
        bridge
            .call::<_, u8>("count", &())
            .expect("the call succeeds"),
        1
    );
}

#[test]
fn the_error_names_a_function_that_is_missing_or_takes_other_parameters() {
    let bridge = bridge(Bridge::builder());
    let error = bridge
        .call::<_, ()>("ecko", &())
        .expect_err("the function does not exist");
    assert!(error.to_string().contains("no function `ecko`"), "{error}");
    let error = bridge
        .call_image::<()>("echo", b"", 1, 1)
        .expect_err("the function does not take an image");
    assert!(
        error
            .to_string()
            .contains("takes (i32, i32), not (i32, i32, i32, i32)"),
        "{error}"
    );
    assert_eq!(
        bridge
            .call::<_, u8>("count", &())
            .expect("the call succeeds"),
        1,
        "no function was called"
    );
}

#[test]
fn an_instance_keeps_its_state_until_a_call_ends_it() {
    let bridge = bridge(Bridge::builder());
    for calls in 1..=3 {
        assert_eq!(
            bridge
                .call::<_, u8>("count", &())
                .expect("the call succeeds"),
            calls
        );
    }
    let error = bridge
        .call::<_, ()>("trap", &())
        .expect_err("the function traps");
    assert!(
        matches!(error, CallError::Ended(Exit::Trapped(_))),
        "{error}"
    );
    assert_eq!(
        bridge
            .call::<_, u8>("count", &())
            .expect("the call succeeds"),
        1
    );
}

#[test]
fn t010_limits_apply_to_every_call_separately() {
    let bridge = bridge(Bridge::builder().compute(1));
    for _ in 0..20 {
        assert!(bridge.call::<_, u8>("echo", &7).is_ok());
    }
    for _ in 0..3 {
        let error = bridge
            .call::<_, ()>("spin", &())
            .expect_err("the call exceeds its compute limit");
        let CallError::Ended(Exit::Limit(LimitReached {
            limit: Limit::Compute,
            ..
        })) = error
        else {
            panic!("{error}")
        };
        assert_eq!(
            bridge
                .call::<_, u8>("count", &())
                .expect("the call succeeds"),
            1
        );
    }
}

#[test]
fn a_call_that_takes_too_long_is_ended_and_the_next_call_works() {
    let bridge = bridge(Bridge::builder().time(Duration::from_millis(20)));
    for _ in 0..3 {
        let error = bridge
            .call::<_, ()>("spin", &())
            .expect_err("the call never returns");
        assert!(matches!(error, CallError::TimedOut(_)), "{error}");
    }
    let minute = Duration::from_secs(60);
    let argument = Argument::json(&()).expect("null can be expressed as JSON");
    let answer = futures_lite::future::block_on(bridge.invoke_within(minute, "count", argument));
    assert_eq!(
        answer.expect("the call succeeds"),
        Answer::Json(b"1".to_vec())
    );
}

#[test]
fn several_instances_serve_at_the_same_time() {
    // All calls except the last spin forever. With a single instance, the last one would also wait
    // forever.
    let bridge = bridge(Bridge::builder().instances(4));
    let spinning: Vec<_> = (0..3)
        .map(|_| {
            let bridge = bridge.clone();
            smol::spawn(async move {
                bridge
                    .invoke_async("spin", Argument::Bytes(Vec::new()))
                    .await
            })
        })
        .collect();
    assert_eq!(
        bridge
            .call::<_, u8>("count", &())
            .expect("the call succeeds"),
        1
    );
    // Dropping a call terminates it and its instance.
    drop(spinning);
    for _ in 0..8 {
        assert!(bridge.call::<_, u8>("count", &()).is_ok());
    }
}

#[test]
fn a_blocking_call_on_a_runtime_works_after_a_trap_too() {
    // If the blocked executor had to create the next instance, the second call would wait forever.
    let bridge = bridge(Bridge::builder().time(Duration::from_secs(60)));
    let calls = smol::spawn(async move {
        assert!(bridge.call::<_, ()>("trap", &()).is_err());
        bridge.call::<_, u8>("count", &())
    });
    assert_eq!(
        futures_lite::future::block_on(calls).expect("the call succeeds"),
        1
    );
}

#[test]
fn a_module_that_cannot_be_instantiated_is_refused() {
    let error = Bridge::from_bytes(b"(module (func $start unreachable) (start $start))")
        .expect_err("the function traps");
    assert!(matches!(error, LoadError::Instance(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("the module cannot be instantiated: it trapped"),
        "{error}"
    );
    let error = Bridge::from_bytes(b"not a module").expect_err("these bytes are not a module");
    assert!(matches!(error, LoadError::Module(_)), "{error}");
    let error = Bridge::from_file("/no/such/file.wasm").expect_err("there is no such file");
    assert!(error.to_string().contains("/no/such/file.wasm"), "{error}");
    let error = Bridge::builder()
        .memory(65536)
        .from_bytes(b"(module (memory (export \"memory\") 2))")
        .expect_err("the memory is too large");
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn an_instance_that_never_starts_is_ended() {
    let vm = Vm::builder().slots(8).build().expect("the VM can be built");
    let builder = Bridge::builder()
        .vm(vm.clone())
        .start_within(Duration::from_millis(20));
    for module in [
        "(module (func $start (loop br 0)) (start $start))",
        r#"(module (memory (export "memory") 1) (func (export "_initialize") (loop br 0)))"#,
    ] {
        let error = builder
            .from_bytes(module.as_bytes())
            .expect_err("the start function never returns");
        assert!(
            error.to_string().contains("did not return within 20ms"),
            "{error}"
        );
    }
    assert!(vm.processes().is_empty());
}

#[test]
fn host_functions_are_available_if_allowed() {
    let module = br#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "roll") (param i32 i32) (result i32)
            (drop (call $random (local.get 0) (i32.const 1))) (i32.store8 (local.get 0) (i32.const 48)) (i32.const 1)))"#;
    let error = Bridge::from_bytes(module)
        .expect("a host function that is not granted may be imported")
        .call::<_, u8>("roll", &());
    assert!(
        matches!(error, Err(CallError::Ended(Exit::Trapped(_)))),
        "{error:?}"
    );
    let allowed = Bridge::builder()
        .allow("wasi_snapshot_preview1::random_get")
        .from_bytes(module);
    assert_eq!(
        allowed
            .expect("the module is valid")
            .call::<_, u8>("roll", &())
            .expect("the call succeeds"),
        0
    );
}

#[test]
fn t167_many_threads_can_call_and_the_vm_ends_with_the_last_bridge() {
    let vm = Vm::builder()
        .workers(2)
        .slots(64)
        .build()
        .expect("the VM can be built");
    let bridge = Arc::new(bridge(Bridge::builder().vm(vm.clone()).instances(3)));
    drop(vm);
    let calls: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                let bridge = bridge.clone();
                scope.spawn(move || {
                    let answered = |round: &u32| match round % 10 {
                        9 => bridge.call::<_, ()>("trap", &()).is_err(),
                        _ => {
                            bridge.call::<_, u32>("echo", &(thread * 1000 + round)).ok()
                                == Some(thread * 1000 + round)
                        }
                    };
                    (0..100).filter(answered).count() as u32
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no thread panics"))
            .sum()
    });
    assert_eq!(calls, 1600);
    // The last handle is dropped while a call is still running. That call's future is dropped along
    // with its task.
    let last = Arc::into_inner(bridge).expect("the threads have ended");
    let in_flight = smol::spawn({
        let bridge = last.clone();
        async move {
            bridge
                .invoke_async("spin", Argument::Bytes(Vec::new()))
                .await
        }
    });
    drop(last);
    futures_lite::future::block_on(in_flight.cancel());
}
