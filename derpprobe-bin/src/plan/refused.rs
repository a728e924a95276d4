//! Where strangers are expected to be refused (`-expect-refused`).

use std::convert::Infallible;
use std::str::FromStr;

use derp_proto::{DerpNode, DerpRegion, RegionId};

use super::PlanError;

/// Nodes that are expected to refuse strangers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Refused {
    /// None of them: nothing is said of strangers.
    #[default]
    Nowhere,
    /// All of them.
    Everywhere,
    /// Those with these names, and those of regions with these codes or numbers.
    At(Vec<String>),
}

impl FromStr for Refused {
    type Err = Infallible;

    /// Reads `all`, or names with commas between them. Whether they exist shows in the map.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names = text.split(',').map(str::trim);
        let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        Ok(match names[..] {
            [] => Self::Nowhere,
            ["all"] => Self::Everywhere,
            _ => Self::At(names.into_iter().map(str::to_owned).collect()),
        })
    }
}

impl Refused {
    pub(super) fn includes(&self, id: RegionId, region: &DerpRegion, node: &DerpNode) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Everywhere => true,
            Self::At(names) => names
                .iter()
                .any(|name| *name == node.name || is_region(name, id, region)),
        }
    }

    /// A name with a mistake in it must not pass for a relay that refuses.
    pub(super) fn all_exist(&self, regions: &[(RegionId, &DerpRegion)]) -> Result<(), PlanError> {
        let Self::At(names) = self else { return Ok(()) };
        let exists = |name: &String| {
            regions.iter().any(|(id, region)| {
                is_region(name, *id, region) || region.nodes.iter().any(|node| node.name == *name)
            })
        };
        match names.iter().find(|name| !exists(name)) {
            Some(name) => Err(PlanError::NobodyRefuses(name.clone())),
            None => Ok(()),
        }
    }
}

fn is_region(name: &str, id: RegionId, region: &DerpRegion) -> bool {
    region.region_code == name || id.to_string() == name
}
