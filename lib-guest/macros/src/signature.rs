//! What the attributes have in common: the functions that they accept, and the name of the crate
//! `lunatic`.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{ToTokens, format_ident, quote};
use syn::{Error, FnArg, ItemFn};

/// Returns the type of an argument that `check` has let pass.
pub(crate) fn type_of(argument: &FnArg) -> &dyn ToTokens {
    match argument {
        FnArg::Receiver(receiver) => receiver,
        FnArg::Typed(argument) => &argument.ty,
    }
}

/// What a program's and a test's first function take.
pub(crate) const MAILBOX: &str = "takes its mailbox and nothing else: `(mailbox: Mailbox<T>)`";

/// Refuses what cannot be the first function of a program, of a test or of a spark, as what it is
/// called in the reason and with what it takes.
pub(crate) fn check(function: &ItemFn, what: &str, takes: &str) -> Result<(), Error> {
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
pub(crate) fn lunatic() -> Tokens {
    let name = match crate_name("lunatic") {
        Ok(FoundCrate::Name(name)) => format_ident!("{name}", span = Span::call_site()),
        // The crate's own examples, and a build without a manifest, use its own name.
        Ok(FoundCrate::Itself) | Err(_) => format_ident!("lunatic"),
    };
    quote! { ::#name }
}
