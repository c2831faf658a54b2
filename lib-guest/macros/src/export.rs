//! `#[lunatic::export]`, which adds an export through which host programs can call an ordinary
//! function.

use crate::signature::{lunatic, parse, refuse};
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Error, FnArg, Ident, ItemFn, Pat};

/// The kind of argument that the function takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Values, as JSON.
    Values,
    /// An `Image`.
    Image,
    /// Bytes.
    Bytes,
}

/// Expands to the function and its export.
pub(crate) fn expand(arguments: Tokens, item: Tokens) -> Result<Tokens, Error> {
    let form = form(arguments)?;
    let function: ItemFn = parse(item, "export", "a function")?;
    let signature = &function.sig;
    if signature.asyncness.is_some() || !signature.generics.params.is_empty() {
        return refuse(signature, "an exported function cannot be generic or async");
    }
    let (name, lunatic) = (&signature.ident, lunatic());
    let export = name.to_string();
    let mut parameters = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Typed(parameter) => parameters.push(parameter),
            FnArg::Receiver(receiver) => {
                return refuse(receiver, "an exported function cannot take `self`");
            }
        }
    }
    let returned = |call: Tokens| quote! { #lunatic::export::Returned(#call).write() };
    let (more, call) = match (form, &parameters[..]) {
        (Form::Values, []) => {
            let call = returned(quote! { #name() });
            // The function has no parameters, so any argument is ignored.
            let any = quote! { #lunatic::__private::serde::de::IgnoredAny };
            (
                quote! {},
                quote! { #lunatic::export::with_value(address, length, |_: #any| #call) },
            )
        }
        (Form::Values, [parameter]) => {
            let (ty, call) = (&parameter.ty, returned(quote! { #name(argument) }));
            (
                quote! {},
                quote! { #lunatic::export::with_value(address, length, |argument: #ty| #call) },
            )
        }
        (Form::Values, several) => {
            let names = several.iter().map(|parameter| match &*parameter.pat {
                Pat::Ident(pattern) => Ok(&pattern.ident),
                other => refuse(
                    other,
                    "each parameter needs a name if there are several, because arguments are looked up by name",
                ),
            });
            let names: Vec<&Ident> = names.collect::<Result<_, _>>()?;
            let types = several.iter().map(|parameter| &parameter.ty);
            let call = returned(quote! { #name(#(arguments.#names),*) });
            let serde = format!("{}::__private::serde", lunatic.to_string().replace(' ', ""));
            (
                quote! {
                    #[derive(#lunatic::__private::serde::Deserialize)]
                    #[serde(crate = #serde)]
                    struct Arguments { #(#names: #types),* }
                },
                quote! { #lunatic::export::with_value(address, length, |arguments: Arguments| #call) },
            )
        }
        (Form::Bytes, [_]) => {
            let call = returned(quote! { #name(bytes.into()) });
            (
                quote! {},
                quote! { #lunatic::export::with_bytes(address, length, |bytes| #call) },
            )
        }
        (Form::Image, [_]) => {
            let call = returned(quote! { #name(#lunatic::export::Image { bytes, width, height }) });
            (
                quote! {},
                quote! { #lunatic::export::with_bytes(address, length, |bytes| #call) },
            )
        }
        (Form::Image | Form::Bytes, _) => {
            let what =
                "an exported function that takes an image or bytes must have exactly one parameter";
            return refuse(&signature.inputs, what);
        }
    };
    let size = (form == Form::Image).then(|| quote! { , width: u32, height: u32 });
    Ok(quote! {
        #function

        const _: () = {
            #[allow(unused_imports, reason = "only one of the two applies")]
            use #lunatic::export::{Fallible as _, Infallible as _};

            #more

            #[unsafe(export_name = #export)]
            unsafe extern "C" fn call(address: *mut u8, length: usize #size) -> u64 {
                // SAFETY: the host passes memory that was allocated by `lunatic_alloc`.
                unsafe { #call }
            }
        };
    })
}

fn form(arguments: Tokens) -> Result<Form, Error> {
    match arguments.to_string().as_str() {
        "" => Ok(Form::Values),
        "image" => Ok(Form::Image),
        "bytes" => Ok(Form::Bytes),
        _ => refuse(
            arguments,
            "the argument of `#[lunatic::export]` can only be `image` or `bytes`",
        ),
    }
}
