//! Configurations: what an operator hears of broken ones, and what good ones mean.

mod admission;
mod certificates;
mod deploy;
mod machine;
mod meanings;
mod mistakes;
mod proxies;
