//! The attributes of the crate `lunatic`, which documents and exports them.

mod export;
mod server;
mod spark;
mod test;

use proc_macro::TokenStream;
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, ReturnType};

/// Makes `main` the program's first process. The crate `lunatic` documents it where it exports it.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = Tokens::from(item);
    match expand_main(Tokens::from(arguments), item.clone()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            let error = error.into_compile_error();
            let item = stand_in(item);
            quote! { #error #item }.into()
        }
    }
}

/// Makes a server of an `impl` block. The crate `lunatic` documents it where it exports it.
#[proc_macro_attribute]
pub fn server(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = Tokens::from(item);
    match server::expand(Tokens::from(arguments), item.clone()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            let error = error.into_compile_error();
            let item = server::stand_in(item);
            quote! { #error #item }.into()
        }
    }
}

/// Makes a function one that reads and writes bytes. The crate `lunatic` documents it where it exports it.
#[proc_macro_attribute]
pub fn spark(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = Tokens::from(item);
    match spark::expand(Tokens::from(arguments), item.clone()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            let error = error.into_compile_error();
            quote! { #error #item }.into()
        }
    }
}

/// Makes a function a test. The crate `lunatic` documents it where it exports it.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(arguments.into(), item.into())
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Makes a function one that host programs can call. The crate `lunatic` documents it where it exports it.
#[proc_macro_attribute]
pub fn export(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = Tokens::from(item);
    match export::expand(Tokens::from(arguments), item.clone()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            let error = error.into_compile_error();
            quote! { #error #item }.into()
        }
    }
}

/// Returns what stands in for a refused item, so that the refusal is the only error.
fn stand_in(item: Tokens) -> Tokens {
    match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) if function.sig.ident == "main" => {
            quote! { fn main() { #[allow(unused)] #function } }
        }
        _ => item,
    }
}

/// Puts the function into a `main` that calls it with what it takes.
fn expand_main(arguments: Tokens, item: Tokens) -> Result<Tokens, Error> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "`#[lunatic::main]` takes no arguments",
        ));
    }
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "`#[lunatic::main]` belongs on `fn main`"))?;
    let signature = &function.sig;
    if signature.ident != "main" {
        return Err(Error::new_spanned(
            &signature.ident,
            "`#[lunatic::main]` belongs on `fn main`",
        ));
    }
    check(&function, "`main`", MAILBOX)?;
    let output = &signature.output;
    let lunatic = lunatic();
    let call = match signature.inputs.first() {
        None => quote! { main() },
        // With the span of the type, a type that is no mailbox is the place that the compiler complains of.
        Some(argument) => quote_spanned! { type_of(argument).span() => #lunatic::__main(main) },
    };
    // A block that ends in `;` returns nothing without a lint about a unit value.
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

/// Returns the type of an argument that `check` has let pass.
fn type_of(argument: &FnArg) -> &dyn ToTokens {
    match argument {
        FnArg::Receiver(receiver) => receiver,
        FnArg::Typed(argument) => &argument.ty,
    }
}

/// What a program's and a test's first function take.
const MAILBOX: &str = "takes its mailbox and nothing else: `(mailbox: Mailbox<T>)`";

/// Refuses what cannot be the first function of a program, of a test or of a spark, as what it is called in the reason and with
/// what it takes.
fn check(function: &ItemFn, what: &str, takes: &str) -> Result<(), Error> {
    let signature = &function.sig;
    let refuse =
        |tokens: &dyn ToTokens, why: &str| Err(Error::new_spanned(tokens, format!("{what} {why}")));
    if let Some(asyncness) = &signature.asyncness {
        return refuse(asyncness, "is not async: a process waits without it");
    }
    if let Some(constness) = &signature.constness {
        return refuse(constness, "cannot be const");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, "cannot have an ABI of its own");
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return refuse(&signature.generics, "cannot be generic");
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic, "cannot be variadic");
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return refuse(receiver, "is a function, not a method");
    }
    if let Some(second) = signature.inputs.iter().nth(1) {
        return refuse(second, takes);
    }
    Ok(())
}

/// Returns the path of the crate `lunatic`, under the name that the program's manifest gives it.
fn lunatic() -> Tokens {
    let name = match crate_name("lunatic") {
        Ok(FoundCrate::Name(name)) => format_ident!("{name}", span = Span::call_site()),
        // The crate's own examples, and a build without a manifest, use its own name.
        Ok(FoundCrate::Itself) | Err(_) => format_ident!("lunatic"),
    };
    quote! { ::#name }
}

#[cfg(test)]
mod tests {
    // Not everything: `test` is one of the attributes here.
    use super::{Tokens, expand_main, quote};

    fn refusal(arguments: Tokens, item: Tokens) -> String {
        expand_main(arguments, item)
            .expect_err("it is refused")
            .to_string()
    }

    #[test]
    fn a_main_is_called_with_what_it_takes() {
        let expanded = expand_main(quote! {}, quote! { fn main(m: Mailbox<u8>) { f(m) } });
        let expected =
            quote! { fn main() { fn main(m: Mailbox<u8>) { f(m) } ::lunatic::__main(main); } };
        assert_eq!(
            expanded.expect("it is a main").to_string(),
            expected.to_string()
        );

        let expanded = expand_main(quote! {}, quote! { fn main() -> Result<(), E> { g() } });
        let expected =
            quote! { fn main() -> Result<(), E> { fn main() -> Result<(), E> { g() } main() } };
        assert_eq!(
            expanded.expect("it is a main").to_string(),
            expected.to_string()
        );
    }

    #[test]
    fn what_cannot_be_a_main_is_refused_with_the_reason() {
        let check = |item: Tokens, why: &str| {
            let refusal = refusal(quote! {}, item);
            assert!(refusal.contains(why), "`{refusal}` does not say `{why}`");
        };
        check(quote! { fn start() {} }, "belongs on `fn main`");
        check(quote! { struct Main; }, "belongs on `fn main`");
        check(quote! { async fn main() {} }, "not async");
        check(quote! { const fn main() {} }, "const");
        check(quote! { extern "C" fn main() {} }, "ABI");
        check(quote! { fn main<T>(m: Mailbox<T>) {} }, "generic");
        check(quote! { fn main(m: Mailbox<()>, n: u8) {} }, "nothing else");
        check(quote! { fn main(&self) {} }, "not a method");
        assert!(refusal(quote! { fast }, quote! { fn main() {} }).contains("no arguments"));
    }
}
