// The second program of the introduction, word for word.
include!("../../../../seeds/environments.rs");
