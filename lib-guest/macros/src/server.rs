//! `#[lunatic::server]`, which turns an `impl` block into a server. Clients call functions with the
//! same names as those in the block.
//!
//! The attribute generates a message enum with one variant for each call and cast, a type with
//! functions that send these messages, and an implementation of `lunatic::Server` that handles
//! them.

use crate::signature::{lunatic, parse, refuse, refuse_arguments};
use proc_macro2::{Span, TokenStream as Tokens, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, ItemImpl, Pat,
    PathArguments, ReceiverKind, ReturnType, Type,
};

/// The mark on a function in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Init,
    Call,
    Cast,
    Signal,
    Terminate,
}

impl Mark {
    const ALL: [(&str, Self); 5] = [
        ("init", Self::Init),
        ("call", Self::Call),
        ("cast", Self::Cast),
        ("signal", Self::Signal),
        ("terminate", Self::Terminate),
    ];

    fn of(attribute: &Attribute) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(name, _)| attribute.path().is_ident(name))
            .map(|(_, mark)| mark)
    }
}

/// Functions that every handle has. A call or cast with the same name would be unreachable.
const TAKEN: [&str; 5] = ["clone", "process", "register", "stop", "within"];

pub(crate) fn expand(arguments: Tokens, item: Tokens) -> Result<Tokens, Error> {
    refuse_arguments(&arguments, "server")?;
    let mut block: ItemImpl = parse(item, "server", "an `impl` block")?;
    let name = check(&block)?.clone();
    let marked = take_marks(&mut block)?;
    let server = &block.self_ty;
    let lunatic = lunatic();

    let only = |mark: Mark, word: &str| {
        let mut found = marked
            .iter()
            .filter(|(other, _)| *other == mark)
            .map(|(_, function)| function);
        let first = found.next();
        match found.next() {
            Some(second) => refuse(
                &second.sig.ident,
                format!("a server can have only one `#[{word}]`"),
            ),
            None => Ok(first),
        }
    };
    let Some(init) = only(Mark::Init, "init")? else {
        return refuse(server, "a server needs an `#[init]`: `fn init(…) -> Self`");
    };
    let (argument, init) = expand_init(init)?;
    let signal = only(Mark::Signal, "signal")?;
    let terminate = only(Mark::Terminate, "terminate")?;
    let (takes_signals, terminates) = (signal.is_some(), terminate.is_some());
    let signal = signal.map(expand_signal).transpose()?;
    let terminate = terminate.map(expand_terminate).transpose()?;

    let (message, calls) = (
        format_ident!("__{name}Message"),
        format_ident!("__{name}Calls"),
    );
    let mut variants = Vec::new();
    let mut arms = Vec::new();
    let mut functions = Vec::new();
    for (mark, function) in marked
        .iter()
        .filter(|(mark, _)| matches!(mark, Mark::Call | Mark::Cast))
    {
        let handler = Handler::new(function, *mark)?;
        variants.push(handler.variant());
        arms.push(handler.arm(&message));
        functions.push(handler.functions(&message, &lunatic));
    }
    let functions = name_self(quote! { #(#functions)* }, server);
    let variants = name_self(quote! { #(#variants)* }, server);
    let serde = quote! { #lunatic::__private::serde };
    let serde_path = serde.to_string().replace(' ', "");
    let reply = Ident::new("reply", Span::mixed_site());

    Ok(quote! {
        #block

        #[allow(clippy::all, dead_code, non_camel_case_types, private_interfaces, unreachable_pub, missing_docs)]
        const _: () = {
            #[doc(hidden)]
            #[derive(#serde::Serialize, #serde::Deserialize)]
            #[serde(crate = #serde_path)]
            pub enum #message { #variants }

            #[doc(hidden)]
            pub struct #calls(#lunatic::server::Client<#server>);

            impl ::core::clone::Clone for #calls {
                fn clone(&self) -> Self {
                    *self
                }
            }

            impl ::core::marker::Copy for #calls {}

            impl ::core::convert::From<#lunatic::server::Client<#server>> for #calls {
                fn from(client: #lunatic::server::Client<#server>) -> Self {
                    Self(client)
                }
            }

            impl ::core::convert::AsRef<#lunatic::server::Client<#server>> for #calls {
                fn as_ref(&self) -> &#lunatic::server::Client<#server> {
                    &self.0
                }
            }

            impl #calls { #functions }

            impl #lunatic::Server for #server {
                type Calls = #calls;
            }

            impl #lunatic::server::Behaviour for #server {
                type Argument = #argument;
                type Message = #message;

                const TAKES_SIGNALS: bool = #takes_signals;
                const TERMINATES: bool = #terminates;

                #init

                fn __handle(&mut self, message: #message, #reply: #lunatic::server::UntypedReply) {
                    match message { #(#arms)* }
                }

                fn __signal(&mut self, signal: #lunatic::Signal) {
                    #signal
                }

                fn __terminate(self) {
                    #terminate
                }
            }
        };
    })
}

/// Returns a stand-in for a rejected block, so that the compiler doesn't report cascading errors.
pub(crate) fn stand_in(item: Tokens) -> Tokens {
    let Ok(mut block) = syn::parse2::<ItemImpl>(item.clone()) else {
        return item;
    };
    for item in &mut block.items {
        if let ImplItem::Fn(function) = item {
            function
                .attrs
                .retain(|attribute| Mark::of(attribute).is_none());
        }
    }
    quote! { #[allow(dead_code)] #block }
}

/// Checks that the block is an inherent `impl` of a named type, and returns the type's name.
fn check(block: &ItemImpl) -> Result<&Ident, Error> {
    if let Some((path, _)) = &block.trait_ {
        return refuse(
            path,
            "`#[server]` belongs on an inherent `impl` block, not an implementation of a trait",
        );
    }
    if !block.generics.params.is_empty() || block.generics.where_clause.is_some() {
        return refuse(&block.generics, "a server cannot be generic");
    }
    match &*block.self_ty {
        Type::Path(path) => Ok(&path
            .path
            .segments
            .last()
            .expect("a path has at least one segment")
            .ident),
        other => refuse(other, "a server must be a named type"),
    }
}

/// Removes the marks from the block's functions, and returns the marked functions.
fn take_marks(block: &mut ItemImpl) -> Result<Vec<(Mark, ImplItemFn)>, Error> {
    let mut marked = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let mut marks = function
            .attrs
            .iter()
            .filter_map(|attribute| Some((Mark::of(attribute)?, attribute)));
        let Some((mark, attribute)) = marks.next() else {
            continue;
        };
        attribute.meta.require_path_only()?;
        if let Some((_, second)) = marks.next() {
            return refuse(
                second,
                "a function can have only one of `#[init]`, `#[call]`, `#[cast]`, `#[signal]` and \
                 `#[terminate]`",
            );
        }
        function
            .attrs
            .retain(|attribute| Mark::of(attribute).is_none());
        check_function(function)?;
        marked.push((mark, function.clone()));
    }
    Ok(marked)
}

/// Rejects functions that cannot be part of a server.
fn check_function(function: &ImplItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        return refuse(
            asyncness,
            "a server's function cannot be async; a process can simply block",
        );
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return refuse(
            &signature.generics,
            "a server's function cannot be generic, because each message has one concrete type",
        );
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic, "a server's function cannot be variadic");
    }
    Ok(())
}

/// Returns the type of the server's argument, and a function that creates the state from it.
fn expand_init(function: &ImplItemFn) -> Result<(Tokens, Tokens), Error> {
    let signature = &function.sig;
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return refuse(
            receiver,
            "`#[init]` creates the state, so it cannot take `self`",
        );
    }
    let ReturnType::Type(_, output) = &signature.output else {
        return refuse(
            &signature.ident,
            "`#[init]` must return the state: `Self` or `Result<Self, …>`",
        );
    };
    let mut types = Vec::new();
    for input in &signature.inputs {
        if let FnArg::Typed(argument) = input {
            check_type(&argument.ty)?;
            types.push(&argument.ty);
        }
    }
    let argument = match &types[..] {
        [only] => quote! { #only },
        types => quote! { (#(#types,)*) },
    };
    let names: Vec<Ident> = (0..types.len())
        .map(|index| format_ident!("argument_{index}"))
        .collect();
    let pattern = match &names[..] {
        [only] => quote! { #only },
        names => quote! { (#(#names,)*) },
    };
    let init = &signature.ident;
    let made = if is_named(output, "Result") {
        quote_spanned! { output.span() =>
            Self::#init(#(#names),*).map_err(|error| ::std::string::ToString::to_string(&error))
        }
    } else {
        quote_spanned! { output.span() => ::core::result::Result::Ok(Self::#init(#(#names),*)) }
    };
    let init = quote! {
        fn __init(argument: Self::Argument) -> ::core::result::Result<Self, ::std::string::String> {
            let #pattern = argument;
            #made
        }
    };
    Ok((argument, init))
}

fn expand_signal(function: &ImplItemFn) -> Result<Tokens, Error> {
    let signature = &function.sig;
    if signature.receiver().is_none() || signature.inputs.len() != 2 {
        return refuse(
            signature,
            "`#[signal]` must take a signal: `fn signal(&mut self, signal: Signal)`",
        );
    }
    let name = &signature.ident;
    Ok(quote! { self.#name(signal); })
}

fn expand_terminate(function: &ImplItemFn) -> Result<Tokens, Error> {
    let signature = &function.sig;
    if signature.receiver().is_none() || signature.inputs.len() != 1 {
        return refuse(
            signature,
            "`#[terminate]` must take the state: `fn terminate(self)`",
        );
    }
    let name = &signature.ident;
    Ok(quote! { self.#name(); })
}

/// A call or a cast.
struct Handler<'a> {
    function: &'a ImplItemFn,
    mark: Mark,
    names: Vec<&'a Ident>,
    types: Vec<&'a Type>,
    /// The answer's type, if the last parameter is a `Reply`.
    later: Option<Tokens>,
}

impl<'a> Handler<'a> {
    fn new(function: &'a ImplItemFn, mark: Mark) -> Result<Self, Error> {
        let signature = &function.sig;
        let name = &signature.ident;
        if TAKEN.iter().any(|taken| name == taken) {
            return refuse(
                name,
                format!("every handle already has a function `{name}`; choose another name"),
            );
        }
        match signature.receiver() {
            Some(receiver) if matches!(receiver.kind, ReceiverKind::Reference(..)) => {}
            Some(receiver) => {
                return refuse(
                    receiver,
                    "a call or cast cannot consume the state: take `&self` or `&mut self`",
                );
            }
            None => {
                return refuse(
                    name,
                    "a call or cast must take the state: `&self` or `&mut self`",
                );
            }
        }
        let mut names = Vec::new();
        let mut types: Vec<&Type> = Vec::new();
        for input in &signature.inputs {
            let FnArg::Typed(argument) = input else {
                continue;
            };
            let Pat::Ident(pattern) = &*argument.pat else {
                return refuse(
                    &argument.pat,
                    "clients see this parameter, so it needs a name",
                );
            };
            check_type(&argument.ty)?;
            names.push(&pattern.ident);
            types.push(&argument.ty);
        }
        let mut later = None;
        if mark == Mark::Call && types.last().is_some_and(|last| is_named(last, "Reply")) {
            if let ReturnType::Type(_, output) = &signature.output {
                return refuse(
                    output,
                    "a call with a `Reply` answers through the `Reply` and cannot return a value",
                );
            }
            names.pop();
            let reply = types.pop().expect("`types` is not empty, as checked above");
            later = Some(answer(reply)?);
        }
        if let (Mark::Cast, ReturnType::Type(_, output)) = (mark, &signature.output) {
            return refuse(output, "a cast cannot return a value; make it a `#[call]`");
        }
        if let ReturnType::Type(_, output) = &signature.output {
            check_type(output)?;
        }
        Ok(Self {
            function,
            mark,
            names,
            types,
            later,
        })
    }

    /// Returns the function's attributes that are named in `kept`, to copy to the generated code.
    fn attributes(&self, kept: &[&str]) -> impl Iterator<Item = &Attribute> {
        let is_kept =
            move |attribute: &&Attribute| kept.iter().any(|name| attribute.path().is_ident(name));
        self.function
            .attrs
            .iter()
            .filter(is_kept)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Returns the handler's variant of the message enum.
    fn variant(&self) -> Tokens {
        let (name, types) = (&self.function.sig.ident, &self.types);
        let attributes = self.attributes(&["cfg"]);
        quote! { #(#attributes)* #name(#(#types),*), }
    }

    /// Returns the match arm that handles the message in the server.
    fn arm(&self, message: &Ident) -> Tokens {
        let (name, names) = (&self.function.sig.ident, &self.names);
        let attributes = self.attributes(&["cfg"]);
        let reply = Ident::new("reply", Span::mixed_site());
        let handled = match (self.mark, &self.later) {
            (Mark::Cast, _) => quote! { self.#name(#(#names),*) },
            (_, Some(_)) => quote! { self.#name(#(#names,)* #reply.typed()) },
            (_, None) => quote! { #reply.typed().send(self.#name(#(#names),*)) },
        };
        quote! { #(#attributes)* #message::#name(#(#names),*) => { #handled; } }
    }

    /// Returns the functions that clients call.
    fn functions(&self, message: &Ident, lunatic: &Tokens) -> Tokens {
        let (name, names, types) = (&self.function.sig.ident, &self.names, &self.types);
        let visibility = &self.function.vis;
        let attributes: Vec<_> = self.attributes(&["cfg", "deprecated", "doc"]).collect();
        if self.mark == Mark::Call {
            let output = match (&self.later, &self.function.sig.output) {
                (Some(answer), _) => answer.clone(),
                (None, ReturnType::Type(_, output)) => output.to_token_stream(),
                (None, ReturnType::Default) => quote! { () },
            };
            return quote! {
                #(#attributes)*
                #visibility fn #name(
                    &self, #(#names: #types),*
                ) -> ::core::result::Result<#output, #lunatic::RequestError> {
                    self.0.call(#message::#name(#(#names),*))
                }
            };
        }
        let after = format_ident!("{name}_after");
        let delay = Ident::new("delay", Span::mixed_site());
        quote! {
            #(#attributes)*
            #visibility fn #name(
                &self, #(#names: #types),*
            ) -> ::core::result::Result<(), #lunatic::SendFailure> {
                self.0.cast(#message::#name(#(#names),*))
            }

            #(#attributes)*
            #visibility fn #after(
                &self, #delay: ::std::time::Duration, #(#names: #types),*
            ) -> ::core::result::Result<#lunatic::Timer, #lunatic::LunaticError> {
                self.0.cast_after(#delay, #message::#name(#(#names),*))
            }
        }
    }
}

/// Rejects types that cannot be sent to another process, with a more helpful message than serde's.
fn check_type(kind: &Type) -> Result<(), Error> {
    match kind {
        Type::Reference(_) => refuse(kind, "a value sent to another process must own its data"),
        Type::ImplTrait(_) => refuse(
            kind,
            "a value sent to another process must have a concrete type",
        ),
        _ => Ok(()),
    }
}

/// Returns true if the last segment of the type's path is `name`.
fn is_named(kind: &Type, name: &str) -> bool {
    let Type::Path(path) = kind else { return false };
    path.path
        .segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}

/// Returns the answer's type, given the type of a `Reply`.
fn answer(reply: &Type) -> Result<Tokens, Error> {
    if let Type::Path(path) = reply
        && let Some(PathArguments::AngleBracketed(arguments)) =
            path.path.segments.last().map(|last| &last.arguments)
        && let Some(GenericArgument::Type(answer)) = arguments.args.first()
    {
        return Ok(answer.to_token_stream());
    }
    refuse(
        reply,
        "`Reply` needs the type of the answer, as in `Reply<u32>`",
    )
}

/// Replaces `Self` with the server's type, because the tokens are moved to a place where `Self` is
/// a different type.
fn name_self(tokens: Tokens, server: &Type) -> Tokens {
    let mut named = Tokens::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "Self" => named.extend(quote! { #server }),
            TokenTree::Group(group) => {
                let mut inner =
                    proc_macro2::Group::new(group.delimiter(), name_self(group.stream(), server));
                inner.set_span(group.span());
                named.extend([TokenTree::Group(inner)]);
            }
            other => named.extend([other]),
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_server_is_rejected_with_a_reason() {
        let check = |item: Tokens, why: &str| {
            let refusal = expand(quote! {}, item)
                .expect_err("the item is not a valid server")
                .to_string();
            assert!(refusal.contains(why), "`{refusal}` does not say `{why}`");
        };
        let with_init = |item: Tokens, why: &str| {
            check(
                quote! { impl S { #[init] fn init() -> Self { S } #item } },
                why,
            );
        };
        check(quote! { struct S; }, "belongs on an `impl` block");
        check(
            quote! { impl Clone for S {} },
            "not an implementation of a trait",
        );
        check(quote! { impl<T> S<T> {} }, "cannot be generic");
        check(quote! { impl S {} }, "needs an `#[init]`");
        check(
            quote! { impl S { #[init] fn init(&self) -> Self { S } } },
            "cannot take `self`",
        );
        check(
            quote! { impl S { #[init] fn init() {} } },
            "must return the state",
        );
        with_init(quote! { #[init] fn again() -> Self { S } }, "one `#[init]`");
        with_init(
            quote! { #[call] #[cast] fn f(&self) {} },
            "can have only one of",
        );
        with_init(quote! { #[call] async fn f(&self) {} }, "cannot be async");
        with_init(
            quote! { #[call] fn f<T>(&self, t: T) {} },
            "one concrete type",
        );
        with_init(
            quote! { #[call] fn f(&self, t: impl Copy) {} },
            "a concrete type",
        );
        with_init(
            quote! { #[call] fn f(&self, t: &str) {} },
            "must own its data",
        );
        with_init(
            quote! { #[call] fn f(&self) -> &str { "" } },
            "must own its data",
        );
        with_init(
            quote! { #[call] fn f(&self, (a, b): (u8, u8)) {} },
            "needs a name",
        );
        with_init(quote! { #[call] fn f(self) {} }, "cannot consume the state");
        with_init(
            quote! { #[call] fn f() {} },
            "call or cast must take the state",
        );
        with_init(quote! { #[call] fn stop(&self) {} }, "choose another name");
        with_init(
            quote! { #[call] fn f(&self, reply: Reply<u8>) -> u8 { 0 } },
            "through the `Reply` and cannot return a value",
        );
        with_init(
            quote! { #[call] fn f(&self, reply: Reply) {} },
            "needs the type of the answer",
        );
        with_init(
            quote! { #[cast] fn f(&self) -> u8 { 0 } },
            "a cast cannot return a value",
        );
        with_init(quote! { #[signal] fn f(&self) {} }, "must take a signal");
        with_init(
            quote! { #[terminate] fn f(self, how: u8) {} },
            "must take the state",
        );
        let refusal = expand(quote! { fast }, quote! { impl S {} })
            .expect_err("the item is not a valid server");
        assert!(refusal.to_string().contains("no arguments"));
    }

    #[test]
    fn functions_without_a_mark_are_left_unchanged() {
        let item = quote! { impl S { #[init] fn init() -> Self { S } fn help(&self) {} } };
        let expanded = expand(quote! {}, item)
            .expect("the item is a valid server")
            .to_string();
        let block = quote! { impl S { fn init() -> Self { S } fn help(&self) {} } }.to_string();
        assert!(expanded.starts_with(&block), "{expanded}");
        assert_eq!(expanded.matches("help").count(), 1, "{expanded}");
    }
}
