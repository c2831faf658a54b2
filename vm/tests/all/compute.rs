//! (subject)
