//! A bill of materials: every crate that is linked into a program, or into several that are given
//! out together, as a `CycloneDX` document.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, Package, PackageId};
use serde_json::{Value, json};

use crate::shell;

/// The bill of the packages `names` as they are built for `target`. It is called after the first.
pub(super) fn of(names: &[&str], target: &str) -> Result<Value> {
    let metadata = MetadataCommand::new()
        .manifest_path(shell::root().join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", target].map(str::to_owned))
        .exec()
        .context("cargo metadata")?;
    let packages: BTreeMap<&PackageId, &Package> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package))
        .collect();
    let mut programs = Vec::new();
    let mut all = BTreeSet::new();
    for name in names {
        let (program, linked) = linked(&metadata, name)?;
        programs.push(program);
        all.extend(linked);
    }
    let root = *programs.first().context("a bill of nothing")?;
    let kind = |id: &&PackageId| match programs.contains(id) {
        true => "application",
        false => "library",
    };
    let components: Vec<Value> = all
        .iter()
        .filter(|id| **id != root)
        .filter_map(|id| Some(component(packages.get(id)?, kind(id))))
        .collect();
    let program = packages.get(root).context("the package itself")?;
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(program, "application") },
        "components": components,
    }))
}

/// The package `name`, and all that is linked into it, itself among them.
fn linked<'m>(
    metadata: &'m Metadata,
    name: &str,
) -> Result<(&'m PackageId, BTreeSet<&'m PackageId>)> {
    let resolve = metadata.resolve.as_ref().context("no dependency graph")?;
    let nodes: BTreeMap<&PackageId, &Node> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let root = metadata
        .packages
        .iter()
        .find(|package| *package.name == name)
        .with_context(|| format!("no package is called {name}"))?;
    let mut found = BTreeSet::from([&root.id]);
    let mut open = vec![&root.id];
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        for dependency in &node.deps {
            // What only tests and build scripts use does not reach anybody's machine.
            let is_linked = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if is_linked && found.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    Ok((&root.id, found))
}

fn component(package: &Package, kind: &str) -> Value {
    let url = format!("pkg:cargo/{}@{}", package.name, package.version);
    let mut component = json!({
        "type": kind,
        "name": package.name.as_str(),
        "version": package.version.to_string(),
        "purl": url,
        "bom-ref": url,
    });
    // Old manifests separate licenses with a slash, which is no expression of SPDX.
    if let Some(license) = &package.license {
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_tests_use_is_not() {
        let bill = of(&["derper-bin"], "x86_64-unknown-linux-musl").unwrap();
        let names: BTreeSet<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|component| component["name"].as_str().unwrap())
            .collect();
        for linked in ["derp-server", "rustls", "aws-lc-sys", "tokio"] {
            assert!(names.contains(linked), "{linked}");
        }
        for other in [
            "proptest",
            "rusqlite",
            "libsqlite3-sys",
            "derper-bin",
            "xtask",
            "windows-sys",
        ] {
            assert!(!names.contains(other), "{other}");
        }
        let program = &bill["metadata"]["component"];
        assert_eq!(program["type"], "application");
        assert_eq!(program["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
