//! What a project file says.
