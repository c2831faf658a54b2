//! `#[lunatic::main]`, which makes `main` the function that a program's first process runs.

use crate::signature::{MAILBOX, check, lunatic, parse, refuse, refuse_arguments, type_of};
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemFn, ReturnType};

/// Returns a stand-in for a rejected item, so that the compiler doesn't report cascading errors.
pub(crate) fn stand_in(item: Tokens) -> Tokens {
    match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) if function.sig.ident == "main" => {
            quote! { fn main() { #[allow(unused)] #function } }
        }
        _ => item,
    }
}

/// Wraps the function in a `main` that calls it.
pub(crate) fn expand(arguments: Tokens, item: Tokens) -> Result<Tokens, Error> {
    refuse_arguments(&arguments, "main")?;
    let function: ItemFn = parse(item, "main", "`fn main`")?;
    let signature = &function.sig;
    if signature.ident != "main" {
        return refuse(&signature.ident, "`#[lunatic::main]` belongs on `fn main`");
    }
    check(&function, "`main`", MAILBOX)?;
    let output = &signature.output;
    let lunatic = lunatic();
    let call = match signature.inputs.first() {
        None => quote! { main() },
        // The call has the type's span, so that the compiler points to the type if it isn't a
        // mailbox.
        Some(argument) => quote_spanned! { type_of(argument).span() => #lunatic::__main(main) },
    };
    // The `;` avoids a lint about unit values.
    let call = match output {
        ReturnType::Default => quote! { #call; },
        ReturnType::Type(..) => call,
    };
    Ok(quote! {
        fn main() #output {
            #function
            #call
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: Tokens, item: Tokens) -> String {
        expand(arguments, item)
            .expect_err("the item is not a valid `main`")
            .to_string()
    }

    #[test]
    fn a_main_is_called_with_its_parameters() {
        let expanded = expand(quote! {}, quote! { fn main(m: Mailbox<u8>) { f(m) } });
        let expected =
            quote! { fn main() { fn main(m: Mailbox<u8>) { f(m) } ::lunatic::__main(main); } };
        assert_eq!(
            expanded.expect("the item is a valid `main`").to_string(),
            expected.to_string()
        );

        let expanded = expand(quote! {}, quote! { fn main() -> Result<(), E> { g() } });
        let expected =
            quote! { fn main() -> Result<(), E> { fn main() -> Result<(), E> { g() } main() } };
        assert_eq!(
            expanded.expect("the item is a valid `main`").to_string(),
            expected.to_string()
        );
    }

    #[test]
    fn an_invalid_main_is_rejected_with_a_reason() {
        let check = |item: Tokens, why: &str| {
            let refusal = refusal(quote! {}, item);
            assert!(refusal.contains(why), "`{refusal}` does not say `{why}`");
        };
        check(quote! { fn start() {} }, "belongs on `fn main`");
        check(quote! { struct Main; }, "belongs on `fn main`");
        check(quote! { async fn main() {} }, "cannot be async");
        check(quote! { const fn main() {} }, "const");
        check(quote! { extern "C" fn main() {} }, "ABI");
        check(quote! { fn main<T>(m: Mailbox<T>) {} }, "generic");
        check(quote! { fn main(m: Mailbox<()>, n: u8) {} }, "nothing else");
        check(quote! { fn main(&self) {} }, "not a method");
        assert!(refusal(quote! { fast }, quote! { fn main() {} }).contains("no arguments"));
    }
}
