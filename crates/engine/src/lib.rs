//! Where the rows are: sources, mappings and governed frames.
//!
//! A site keeps its data as it always did. [`Governed::open`] reads that source through the site's registered
//! [`study::Mapping`] and yields an [`analysis::Frame`] in the words of the data dictionary: nothing else of the
//! rows is visible above this room. Before it reads a row it runs the mapping's own examples; a text that no rule
//! expects stops it, because a value silently taken for missing is a bias that nobody sees.
//!
//! Errors here quote what they found, which is data of persons: [`EngineError`] prints it for the steward at the
//! site, while its `Debug` and [`EngineError::public`] say only what kind of thing went wrong.
//!
//! ```text
//! let dictionary = study::Dictionary::parse("dictionary.toml", &text)?;
//! let mapping = study::Mapping::parse_with("mapping.toml", &text, &dictionary)?;
//! let site = engine::Governed::open(Path::new("site.csv"), &mapping, &dictionary)?;
//! site.frame().columns.get("age");
//! ```

mod apply;
mod error;
pub mod generate;
mod governed;
mod number;
mod source;
pub mod split;

pub use error::{EngineError, Misfit};
pub use governed::{Governed, run_examples};
pub use source::Source;
