// The first program in the introduction, verbatim.
include!("../../../../seeds/hello.rs");
