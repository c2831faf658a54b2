//! `#[lunatic::spark]`, which makes a function the program's entry point and passes it the
//! program's comm.

use crate::signature::{check, lunatic, parse, refuse, refuse_arguments, type_of};
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemFn};

/// Adds a `main` that calls the function, or wraps the function if it is itself called `main`.
pub(crate) fn expand(arguments: Tokens, item: Tokens) -> Result<Tokens, Error> {
    refuse_arguments(&arguments, "spark")?;
    let function: ItemFn = parse(item, "spark", "a function")?;
    let name = &function.sig.ident;
    let Some(argument) = function.sig.inputs.first() else {
        return refuse(name, "a spark must take its comm: `(comm: Comm)`");
    };
    check(
        &function,
        "a spark",
        "takes its comm and nothing else: `(comm: Comm)`",
    )?;
    let lunatic = lunatic();
    // The call has the type's span, so that the compiler points to the type if it isn't a `Comm`.
    let call = quote_spanned! { type_of(argument).span() => #lunatic::__spark(#name) };
    let main = |inside: Tokens| quote! { fn main() -> ::std::process::ExitCode { #inside #call } };
    Ok(if name == "main" {
        main(quote! { #function })
    } else {
        let main = main(quote! {});
        quote! { #function #main }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_main_passes_the_comm_to_the_spark() {
        let check = |item: Tokens, expected: Tokens| {
            assert_eq!(
                expand(quote! {}, item)
                    .expect("the item is a valid spark")
                    .to_string(),
                expected.to_string()
            );
        };
        check(
            quote! { fn entrypoint(comm: Comm) -> io::Result<()> { f(comm) } },
            quote! {
                fn entrypoint(comm: Comm) -> io::Result<()> { f(comm) }
                fn main() -> ::std::process::ExitCode { ::lunatic::__spark(entrypoint) }
            },
        );
        check(
            quote! { fn main(comm: Comm) { f(comm) } },
            quote! {
                fn main() -> ::std::process::ExitCode { fn main(comm: Comm) { f(comm) } ::lunatic::__spark(main) }
            },
        );
    }

    #[test]
    fn an_invalid_spark_is_rejected_with_a_reason() {
        let check = |arguments: Tokens, item: Tokens, why: &str| {
            let refusal = expand(arguments, item)
                .expect_err("the item is not a valid spark")
                .to_string();
            assert!(refusal.contains(why), "`{refusal}` does not say `{why}`");
        };
        check(quote! {}, quote! { struct S; }, "belongs on a function");
        check(quote! {}, quote! { fn f() {} }, "must take its comm");
        check(
            quote! {},
            quote! { fn f(a: Comm, b: u8) {} },
            "its comm and nothing else",
        );
        check(
            quote! {},
            quote! { async fn f(a: Comm) {} },
            "cannot be async",
        );
        check(quote! {}, quote! { fn f<T>(a: Comm) {} }, "generic");
        check(quote! { fast }, quote! { fn f(a: Comm) {} }, "no arguments");
    }
}
