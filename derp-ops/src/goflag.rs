//! The command line syntax of Go's `flag` package, so that an operator's old command lines work.
//!
//! What is here reads and writes text: words into options ([`FlagTable`]) and values into types
//! ([`parse_bool`], [`parse_int`], [`parse_float`], [`GoDuration`]). Which flags a program has, and
//! what they mean, is the program's affair.

mod argv;
mod duration;
mod value;

pub use argv::{ArgvError, Arity, FlagTable, Split, Words};
pub use duration::{DurationError, GoDuration};
pub use value::{parse_bool, parse_float, parse_int};
