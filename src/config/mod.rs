//! One YAML file with strict keys; all mistakes at once, each with its line and column.
//!
//! Owns: the document as written, its checks and the resolved [`Config`]. Must never: start anything, or keep a secret
//! outside of [`crate::secret::Secret`].

mod deserialize;
pub mod document;
mod mistake;
mod recover;
pub mod secret;
mod suggest;
mod tree;

pub use mistake::{Mistake, Mistakes, Path, Position, show_path};
