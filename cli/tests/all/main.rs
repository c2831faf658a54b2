//! Tests that run the `lunatic` command. Guests are embedded in the tests, in text format.

mod cache;
mod calls;
mod cargo;
mod compile;
mod completions;
mod examples;
mod files;
mod guest;
mod init;
mod interrupt;
mod library;
mod lunatic;
mod metrics;
mod new;
mod program;
mod projects;
mod published;
mod report;
mod rights;
mod seeds;
mod service;
mod status;
mod streams;
mod testing;
