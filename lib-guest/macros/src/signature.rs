//! Code shared by the attributes: checks of function signatures, and the path of the `lunatic`
//! crate.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{ToTokens, format_ident, quote};
use std::fmt::Display;
use syn::parse::Parse;
use syn::{Error, FnArg, ItemFn};

/// Rejects arguments to an attribute that doesn't take any.
pub(crate) fn refuse_arguments(arguments: &Tokens, attribute: &str) -> Result<(), Error> {
    if arguments.is_empty() {
        return Ok(());
    }
    let why = format!("`#[lunatic::{attribute}]` takes no arguments");
    refuse(arguments, why)
}

/// Returns an error that points to `tokens`.
pub(crate) fn refuse<T>(tokens: impl ToTokens, why: impl Display) -> Result<T, Error> {
    Err(Error::new_spanned(tokens, why))
}

/// Parses the item that an attribute is applied to. `place` says where the attribute belongs.
pub(crate) fn parse<T: Parse>(item: Tokens, attribute: &str, place: &str) -> Result<T, Error> {
    syn::parse2(item).map_err(|error| {
        let why = format!("`#[lunatic::{attribute}]` belongs on {place}");
        Error::new(error.span(), why)
    })
}

/// Returns the type of an argument that was accepted by `check`.
pub(crate) fn type_of(argument: &FnArg) -> &dyn ToTokens {
    match argument {
        FnArg::Receiver(receiver) => receiver,
        FnArg::Typed(argument) => &argument.ty,
    }
}

/// What errors say about the parameters of `main` or a test.
pub(crate) const MAILBOX: &str = "takes its mailbox and nothing else: `(mailbox: Mailbox<T>)`";

/// Rejects a function that cannot be a `main`, a test or a spark. In the error, `what` names the
/// function, and `takes` describes its parameters.
pub(crate) fn check(function: &ItemFn, what: &str, takes: &str) -> Result<(), Error> {
    let signature = &function.sig;
    let refuse = |tokens: &dyn ToTokens, why: &str| refuse(tokens, format!("{what} {why}"));
    if let Some(asyncness) = &signature.asyncness {
        return refuse(asyncness, "cannot be async; a process can simply block");
    }
    if let Some(constness) = &signature.constness {
        return refuse(constness, "cannot be const");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, "cannot declare an ABI");
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return refuse(&signature.generics, "cannot be generic");
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic, "cannot be variadic");
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return refuse(receiver, "must be a function, not a method");
    }
    if let Some(second) = signature.inputs.iter().nth(1) {
        return refuse(second, takes);
    }
    Ok(())
}

/// Returns the path of the `lunatic` crate, using its name in the program's manifest.
pub(crate) fn lunatic() -> Tokens {
    let name = match crate_name("lunatic") {
        Ok(FoundCrate::Name(name)) => format_ident!("{name}", span = Span::call_site()),
        // The crate's own examples, and builds without a manifest, use the crate's real name.
        Ok(FoundCrate::Itself) | Err(_) => format_ident!("lunatic"),
    };
    quote! { ::#name }
}
