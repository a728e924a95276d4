//! Configurations: what an operator hears of broken ones, and what good ones mean.

mod machine;
mod meanings;
mod mistakes;
