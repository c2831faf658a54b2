//! The attribute macros of the `lunatic` crate, which re-exports and documents them.

mod export;
mod program;
mod server;
mod signature;
mod spark;
mod test;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::Error;

/// Returns the expansion, or an error along with a stand-in for the rejected item.
fn expand_or(
    expand: fn(Tokens, Tokens) -> Result<Tokens, Error>,
    stand_in: fn(Tokens) -> Tokens,
    arguments: TokenStream,
    item: TokenStream,
) -> TokenStream {
    let item = Tokens::from(item);
    match expand(Tokens::from(arguments), item.clone()) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            let error = error.into_compile_error();
            let item = stand_in(item);
            quote! { #error #item }.into()
        }
    }
}

/// Makes `main` the program's first process. Documented in the `lunatic` crate, which re-exports
/// it.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand_or(program::expand, program::stand_in, arguments, item)
}

/// Turns an `impl` block into a server. Documented in the `lunatic` crate, which re-exports it.
#[proc_macro_attribute]
pub fn server(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand_or(server::expand, server::stand_in, arguments, item)
}

/// Turns a function into a spark, which reads and writes bytes. Documented in the `lunatic` crate,
/// which re-exports it.
#[proc_macro_attribute]
pub fn spark(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand_or(spark::expand, |item| item, arguments, item)
}

/// Turns a function into a test. Documented in the `lunatic` crate, which re-exports it.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand_or(test::expand, |_| Tokens::new(), arguments, item)
}

/// Exports a function for host programs to call. Documented in the `lunatic` crate, which
/// re-exports it.
#[proc_macro_attribute]
pub fn export(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand_or(export::expand, |item| item, arguments, item)
}
