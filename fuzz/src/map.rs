//! DERP maps.

use derp_proto::DerpMap;

/// A DERP map as a control server or an operator's file may have it.
///
/// The data is the JSON.
pub fn derp_map(data: &[u8]) {
    let Ok(mut map) = serde_json::from_slice::<DerpMap>(data) else {
        return;
    };
    for region in map.regions.values_mut().flatten() {
        for node in &region.nodes {
            assert_eq!(
                node.derp_port() == Some(443),
                matches!(node.derp_port, 0 | 443)
            );
            assert_eq!(
                node.stun_port() == Some(3478),
                matches!(node.stun_port, 0 | 3478)
            );
        }
        // Fractions are read to within their last digit, so that they need not come back alike.
        (region.latitude, region.longitude) = (0.0, 0.0);
    }
    if let Some(params) = &mut map.home_params {
        params
            .region_score
            .values_mut()
            .for_each(|score| *score = 1.0);
    }
    let json = serde_json::to_vec(&map).expect("a map can be written");
    let again: DerpMap = serde_json::from_slice(&json).expect("what is written can be read");
    assert_eq!(again, map);
}
