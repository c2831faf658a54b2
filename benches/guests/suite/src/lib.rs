//! A test crate: a hundred tests that work for a millisecond or two each, and a hundred that do
//! nothing.
//!
//! With `#[lunatic::test]`, they are tests for the machine, or ordinary tests when compiled
//! natively.

/// Does what a test might do: creates text, splits it, counts words and sorts them.
#[cfg(test)]
fn work(seed: u64) {
    use std::collections::BTreeMap;
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let text: Vec<String> = (0..10_000)
        .map(|_| format!("word{}", next() % 2_000))
        .collect();
    let text = text.join(" ");
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for word in text.split(' ') {
        *counts.entry(word).or_default() += 1;
    }
    let mut sorted: Vec<_> = counts.iter().map(|(word, count)| (*count, *word)).collect();
    sorted.sort();
    assert_eq!(sorted.iter().map(|(count, _)| count).sum::<u64>(), 10_000);
}

/// Declares modules of ten tests each.
macro_rules! tests {
    ($($module:ident: $body:expr;)*) => {$(
        #[cfg(test)]
        mod $module {
            tests!(in $body; t0 t1 t2 t3 t4 t5 t6 t7 t8 t9);
        }
    )*};
    (in $body:expr; $($name:ident)*) => {$(
        #[lunatic::test]
        fn $name() {
            $body
        }
    )*};
}

tests! {
    working_0: crate::work(0);
    working_1: crate::work(1);
    working_2: crate::work(2);
    working_3: crate::work(3);
    working_4: crate::work(4);
    working_5: crate::work(5);
    working_6: crate::work(6);
    working_7: crate::work(7);
    working_8: crate::work(8);
    working_9: crate::work(9);
    empty_0: {};
    empty_1: {};
    empty_2: {};
    empty_3: {};
    empty_4: {};
    empty_5: {};
    empty_6: {};
    empty_7: {};
    empty_8: {};
    empty_9: {};
}
