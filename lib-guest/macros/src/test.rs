//! `#[lunatic::test]`, which turns a function into an export. The export's name contains everything
//! that the test runner needs to know.
//!
//! The `lunatic` command parses these names in `test/name.rs`, which documents the grammar.

use crate::signature::{MAILBOX, check, lunatic, parse, refuse, type_of};
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, ExprLit, ItemFn, Lit, LitStr, Meta, MetaNameValue, ReturnType, Token,
    parse::Parser,
};

/// A test's options.
#[derive(Default)]
struct Options {
    is_ignored: bool,
    why_ignored: Option<String>,
    /// If the test must panic, a string that the panic message must contain.
    panic: Option<String>,
    milliseconds: Option<u64>,
    bytes: Option<u64>,
}

/// Exports the function to the test runner or, on non-wasm targets, turns it into a `#[test]`.
pub(crate) fn expand(arguments: Tokens, item: Tokens) -> Result<Tokens, Error> {
    let mut function: ItemFn = parse(item, "test", "a function")?;
    check(&function, "a test", MAILBOX)?;
    let mut options = Options::default();
    options.read_arguments(arguments)?;
    let attributes = std::mem::take(&mut function.attrs);
    let (own, others): (Vec<_>, Vec<_>) = attributes.into_iter().partition(|attribute| {
        is_named(attribute, "ignore") || is_named(attribute, "should_panic")
    });
    for attribute in &own {
        options.read_attribute(attribute)?;
    }
    let own = own.iter().map(|attribute| &attribute.meta);
    if let (Some(_), ReturnType::Type(_, output)) = (&options.panic, &function.sig.output) {
        return refuse(output, "functions using `#[should_panic]` must return `()`");
    }

    let begin = options.name();
    let name = &function.sig.ident;
    let end = format!("::{name}");
    let lunatic = lunatic();
    let call = match function.sig.inputs.first() {
        None => quote! { #lunatic::__test(#name); },
        // The call has the type's span, so that the compiler points to the type if it isn't a
        // mailbox.
        Some(argument) => {
            quote_spanned! { type_of(argument).span() => #lunatic::__test_with_mailbox(#name); }
        }
    };
    Ok(quote! {
        #[cfg(test)]
        #[allow(unsafe_code)]
        #(#others)*
        #[cfg_attr(target_family = "wasm", unsafe(export_name = concat!(#begin, module_path!(), #end)))]
        #[cfg_attr(not(target_family = "wasm"), ::core::prelude::v1::test)]
        #(#[cfg_attr(not(target_family = "wasm"), #own)])*
        fn #name() {
            #function
            #call
        }
    })
}

fn is_named(attribute: &Attribute, name: &str) -> bool {
    attribute.path().is_ident(name)
}

impl Options {
    /// Reads `timeout = "500ms", memory = "16MiB"`.
    fn read_arguments(&mut self, arguments: Tokens) -> Result<(), Error> {
        let given = Punctuated::<MetaNameValue, Token![,]>::parse_terminated.parse2(arguments)?;
        for argument in given {
            let option = if argument.path.is_ident("timeout") {
                &mut self.milliseconds
            } else if argument.path.is_ident("memory") {
                &mut self.bytes
            } else {
                let why = "a test takes only `timeout = \"500ms\"` and `memory = \"16MiB\"`";
                return refuse(&argument, why);
            };
            if option.is_some() {
                return refuse(&argument, "this option is given twice");
            }
            let text = text(&argument.value)?;
            let units = if argument.path.is_ident("timeout") {
                TIMES
            } else {
                SIZES
            };
            match quantity(&text.value(), units) {
                Some(quantity) if quantity > 0 => *option = Some(quantity),
                _ => {
                    let units: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
                    let why = format!(
                        "this must be a positive whole number with one of the units {}",
                        units.join(", ")
                    );
                    return refuse(text, why);
                }
            }
        }
        Ok(())
    }

    /// Reads `#[ignore]`, `#[ignore = "…"]`, `#[should_panic]`, `#[should_panic = "…"]`,
    /// `#[should_panic(expected = "…")]`.
    fn read_attribute(&mut self, attribute: &Attribute) -> Result<(), Error> {
        let value = match &attribute.meta {
            Meta::Path(_) => None,
            Meta::NameValue(named) => Some(text(&named.value)?.value()),
            Meta::List(list) => {
                let named: MetaNameValue = list.parse_args()?;
                if is_named(attribute, "ignore") || !named.path.is_ident("expected") {
                    return refuse(
                        attribute,
                        "the form must be `#[should_panic(expected = \"a string\")]`",
                    );
                }
                Some(text(&named.value)?.value())
            }
        };
        if is_named(attribute, "ignore") {
            (self.is_ignored, self.why_ignored) = (true, value);
        } else {
            self.panic = Some(value.unwrap_or_default());
        }
        Ok(())
    }

    /// Returns the part of the export's name that precedes the function's path.
    fn name(&self) -> String {
        let escaped = |text: &str| text.replace('#', "\\#");
        let mut name = "#lunatic_test_".to_string();
        if self.is_ignored {
            name += "#ignore_";
        }
        if let Some(why) = &self.why_ignored {
            name += &format!("#because_{}#", escaped(why));
        }
        if let Some(panic) = &self.panic {
            name += &format!("#panic_{}#", escaped(panic));
        }
        if let Some(milliseconds) = self.milliseconds {
            name += &format!("#timeout_{milliseconds}#");
        }
        if let Some(bytes) = self.bytes {
            name += &format!("#memory_{bytes}#");
        }
        name
    }
}

fn text(value: &Expr) -> Result<&LitStr, Error> {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Ok(text),
        other => refuse(other, "this must be a string literal in quotation marks"),
    }
}

/// Units of time, in milliseconds.
const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
/// Units of size, in bytes.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Parses a whole number with a unit.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: Tokens, item: Tokens) -> String {
        expand(arguments, item)
            .expect("the item is a valid test")
            .to_string()
    }

    #[test]
    fn the_name_of_the_export_contains_the_options() {
        let check = |arguments: Tokens, item: Tokens, begin: &str| {
            let expanded = expanded(arguments, item);
            let expected = quote! { concat!(#begin, module_path!(), "::t") }.to_string();
            assert!(
                expanded.contains(&expected),
                "{expanded}\ndoes not contain\n{expected}"
            );
        };
        check(quote! {}, quote! { fn t() {} }, "#lunatic_test_");
        check(
            quote! {},
            quote! { #[ignore] fn t() {} },
            "#lunatic_test_#ignore_",
        );
        check(
            quote! {},
            quote! { #[ignore = "slow"] fn t() {} },
            "#lunatic_test_#ignore_#because_slow#",
        );
        check(
            quote! {},
            quote! { #[should_panic] fn t() {} },
            "#lunatic_test_#panic_#",
        );
        check(
            quote! {},
            quote! { #[should_panic = "a#b"] fn t() {} },
            "#lunatic_test_#panic_a\\#b#",
        );
        check(
            quote! {},
            quote! { #[should_panic(expected = "x")] fn t() {} },
            "#lunatic_test_#panic_x#",
        );
        check(
            quote! { timeout = "2s", memory = "3 KiB" },
            quote! { #[ignore] fn t(m: Mailbox<()>) {} },
            "#lunatic_test_#ignore_#timeout_2000##memory_3072#",
        );
    }

    #[test]
    fn a_test_is_called_with_its_parameters() {
        let call = |item| {
            let expanded = expanded(quote! {}, item);
            expanded
                .rsplit_once("lunatic :: ")
                .expect("the expansion calls the function")
                .1
                .to_string()
        };
        assert_eq!(
            call(quote! { fn t() -> Result<(), E> { f() } }),
            "__test (t) ; }"
        );
        assert_eq!(
            call(quote! { fn t(m: Mailbox<u8>) {} }),
            "__test_with_mailbox (t) ; }"
        );
        // All other attributes stay on the exported function.
        assert!(expanded(quote! {}, quote! { #[cfg(unix)] fn t() {} }).contains("# [cfg (unix)]"));
    }

    #[test]
    fn an_invalid_test_is_rejected_with_a_reason() {
        let check = |arguments: Tokens, item: Tokens, why: &str| {
            let refusal = expand(arguments, item)
                .expect_err("the item is not a valid test")
                .to_string();
            assert!(refusal.contains(why), "`{refusal}` does not say `{why}`");
        };
        check(quote! {}, quote! { struct T; }, "belongs on a function");
        check(quote! {}, quote! { async fn t() {} }, "cannot be async");
        check(quote! {}, quote! { fn t<T>() {} }, "generic");
        check(
            quote! {},
            quote! { fn t(m: Mailbox<()>, n: u8) {} },
            "nothing else",
        );
        check(
            quote! {},
            quote! { #[should_panic] fn t() -> Result<(), ()> { f() } },
            "must return `()`",
        );
        check(
            quote! {},
            quote! { #[should_panic(expect = "x")] fn t() {} },
            "expected = ",
        );
        check(
            quote! {},
            quote! { #[ignore = 3] fn t() {} },
            "quotation marks",
        );
        check(quote! { fast = "1" }, quote! { fn t() {} }, "a test takes");
        check(
            quote! { timeout = "1s", timeout = "1s" },
            quote! { fn t() {} },
            "twice",
        );
        for timeout in ["", "0s", "1", "1.5s", "1MiB", "s", "18446744073709551615h"] {
            check(
                quote! { timeout = #timeout },
                quote! { fn t() {} },
                "must be a positive whole number with one of the units ms, s, m, h",
            );
        }
        check(quote! { memory = "1s" }, quote! { fn t() {} }, "KiB");
    }
}
