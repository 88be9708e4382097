//! How keys are declared: each once, with its name, type, default, bounds and documentation.
//!
//! [`section!`] declares the keys of one map and the struct that holds their values. A [`Kind`] is the type of a key's
//! values: it reads them, writes them back, compares them and describes itself. From both come the reader, `ballast
//! schema`, the reference file, the manual page, the configuration in the API and what a reload reports as changed.

mod diff;
mod key;
mod kind;
mod list;
mod policy;
mod reader;
mod scalar;
mod section;
mod table;

pub(super) use diff::Diff;
pub use diff::{Change, ChangeKind};
pub(super) use key::{Key, Presence};
pub(super) use kind::{Describe, Kind, Nested, Nesting, Optional, converted};
pub(super) use list::{List, list};
pub(super) use policy::{boolean_hint, or_false, or_none};
pub(super) use reader::Reader;
pub(super) use scalar::{
    Scalar, boolean, choice, file, or_word, or_zero, percent, scalar, size, time, time_or_zero,
    whole,
};
pub(super) use section::{Section, SectionKind, map_of, read_key, section};
pub(super) use table::table;
