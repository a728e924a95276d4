//! Reads what callgrind writes: instructions by function, those of its callees not included.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// Instructions by the mangled names of functions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile(HashMap<String, u64>);

impl Profile {
    /// Reads a profile that was written with `--compress-strings=no`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut costs = HashMap::new();
        let mut function = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("fn=") {
                name.clone_into(&mut function);
            } else if line.starts_with("calls=") {
                // What follows a call is what it cost in all, and stands at the callee already.
                lines.next();
            } else if line.starts_with(|first: char| "+-*0123456789".contains(first)) {
                let cost = line.split_whitespace().nth(1).unwrap_or("0");
                let cost: u64 = cost.parse().with_context(|| format!("a cost: {line}"))?;
                *costs.entry(function.clone()).or_default() += cost;
            }
        }
        Ok(Self(costs))
    }

    /// Instructions of all functions that Rust made.
    pub(crate) fn of_rust(&self) -> u64 {
        let functions = self.0.iter().filter(|(name, _)| is_rust(name));
        functions.map(|(_, cost)| cost).sum()
    }

    /// The functions with the most instructions, the most first.
    pub(crate) fn costliest(&self, count: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.0.iter().map(|(name, cost)| (&**name, *cost)).collect();
        all.sort_by_key(|(name, cost)| (u64::MAX - cost, *name));
        all.truncate(count);
        all
    }
}

/// Whether a name was mangled by Rust, in its older or its newer way.
fn is_rust(name: &str) -> bool {
    name.starts_with("_ZN") || name.starts_with("_R")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_has_its_own_instructions() {
        let text = "\
positions: line
events: Ir
summary: 79

fl=a.rs
fn=_ZN1a1bE
12 5
+3 7
cfn=aes
calls=2 40
+1 60
fi=c.rs
* 1

fn=aes
40 60
fn=_RNv1d
7 6
";
        let profile = Profile::parse(text).expect("it is one");
        assert_eq!(
            profile.costliest(3),
            [("aes", 60), ("_ZN1a1bE", 13), ("_RNv1d", 6)]
        );
        assert_eq!(profile.of_rust(), 19);
    }
}
