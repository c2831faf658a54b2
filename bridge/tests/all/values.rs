//! Tests that every value arrives unchanged, and that any bytes returned by a guest become either a
//! value or an error.

use lunatic_bridge::{Argument, Bridge, CallError};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

static ECHO: LazyLock<Bridge> = LazyLock::new(|| {
    let module = br#"(module
        (memory (export "memory") 1)
        (func (export "echo") (param $index i32) (param $length i32) (result i32) (local.get $length))
        (func (export "image") (param $index i32) (param $length i32) (param i32 i32) (result i32) (local.get $length))
        ;; These functions return the argument itself, as a length or as an address and a length.
        (func (export "length") (param $index i32) (param $length i32) (result i32) (i32.load (local.get $index)))
        (func (export "address") (param $index i32) (param $length i32) (result i64) (i64.load (local.get $index))))"#;
    // Less memory than an answer may claim to occupy.
    Bridge::builder()
        .memory(64 << 20)
        .from_bytes(module)
        .expect("the module is valid")
});

#[test]
fn t166_numbers_beyond_the_precision_of_a_float_stay_exact() {
    for number in [
        json!(9_007_199_254_740_993u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.1),
        json!(-0.0),
        json!(5e-324),
    ] {
        assert_eq!(
            ECHO.call::<_, Value>("echo", &number)
                .expect("the call returns the value"),
            number
        );
    }
    // JSON cannot represent NaN.
    assert_eq!(
        ECHO.call::<_, Value>("echo", &f64::NAN)
            .expect("the call returns the value"),
        Value::Null
    );
    let error = ECHO
        .call_bytes("echo", b"NaN")
        .map(|bytes| serde_json::from_slice::<f64>(&bytes).is_err());
    assert!(error.expect("the call returns the bytes"));
}

#[test]
fn t166_deep_nesting_is_an_error_and_not_a_stack_overflow() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let answer = ECHO
        .invoke("echo", Argument::Json(deep))
        .expect("the call returns the bytes");
    let error = answer
        .json::<Value>()
        .expect_err("the value is nested too deeply");
    assert!(
        matches!(&error, CallError::Answer(text) if text.contains("recursion limit")),
        "{error}"
    );
}

#[test]
fn t166_a_value_nested_more_deeply_than_answers_may_be_is_refused() {
    let nest = |depth| (0..depth).fold(Value::Null, |inner, _| json!([inner]));
    assert_eq!(
        ECHO.call::<_, Value>("echo", &nest(127))
            .expect("the call returns the value"),
        nest(127)
    );
    let error = ECHO
        .call::<_, Value>("echo", &nest(128))
        .expect_err("the value is nested too deeply");
    assert!(error.to_string().contains("recursion limit"), "{error}");
    // An answer that is only passed on may be nested as deeply as can be serialized.
    let answer = ECHO
        .invoke(
            "echo",
            Argument::json(&nest(5_000)).expect("the value can be expressed as JSON"),
        )
        .expect("the call returns the bytes");
    answer
        .json::<serde::de::IgnoredAny>()
        .expect("the value can be expressed as JSON");
}

#[test]
fn t166_invalid_text_is_an_error() {
    let answer = ECHO
        .invoke("echo", Argument::Bytes(b"\"\xff\xfe\"".to_vec()))
        .expect("the call returns the bytes");
    assert!(matches!(answer.json::<String>(), Err(CallError::Answer(_))));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has only finite numbers", |number| number.is_finite())
            .prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 256, 10, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..10).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..10)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_comes_back(value in values()) {
        prop_assert_eq!(ECHO.call::<_, Value>("echo", &value).expect("the call returns the value"), value);
    }

    #[test]
    fn t166_any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let answer = ECHO.invoke("echo", Argument::Bytes(bytes.clone())).expect("the call returns the bytes");
        prop_assert_eq!(answer.json::<Value>().ok(), serde_json::from_slice(&bytes).ok());
    }

    #[test]
    fn t166_any_length_and_address_that_a_function_answers_with_is_a_result_or_an_error(
        // Either near the bounds of the memory or anywhere.
        address in prop_oneof![any::<u32>(), 0..200_000u32, u32::MAX - 10..=u32::MAX],
        length in prop_oneof![any::<u32>(), 0..200_000u32, u32::MAX - 10..=u32::MAX],
    ) {
        let answer = ECHO.invoke("length", Argument::Bytes(length.to_le_bytes().to_vec()));
        match answer {
            Ok(answer) => prop_assert_eq!(answer.into_bytes().len(), length as usize),
            Err(error) => prop_assert!(matches!(error, CallError::Answer(_)), "{}", error),
        }
        let found = u64::from(address) << 32 | u64::from(length);
        let answer = ECHO.invoke("address", Argument::Bytes(found.to_le_bytes().to_vec()));
        match answer {
            // The first byte is the kind of the answer.
            Ok(answer) => prop_assert_eq!(answer.into_bytes().len() + 1, length as usize),
            Err(error) => prop_assert!(matches!(error, CallError::Answer(_) | CallError::Failed(_)), "{}", error),
        }
        prop_assert_eq!(ECHO.call::<_, u32>("echo", &length).expect("the call returns the value"), length);
    }

    #[test]
    fn t166_an_image_of_any_size_is_served_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), width: u32, height: u32) {
        let argument = Argument::Image { bytes: bytes.clone(), width, height };
        match ECHO.invoke("image", argument) {
            Ok(answer) => prop_assert_eq!(answer.into_bytes(), bytes),
            Err(error) => prop_assert!(matches!(error, CallError::TooLarge { .. }), "{}", error),
        }
    }
}
