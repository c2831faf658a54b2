// The second program in the introduction, verbatim.
include!("../../../../seeds/environments.rs");
