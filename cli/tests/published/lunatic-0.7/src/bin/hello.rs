// The first program of the introduction, word for word.
include!("../../../../seeds/hello.rs");
