//! A packet that does not have to wait costs no allocation, whatever it comes and goes over.

use testbed_packet_path::{SHAPES, Scene, Shape};

const TURNS: usize = 50;

/// How many packets were dealt with, and how many allocations were made for them.
fn count(shape: Shape) -> (u64, u64) {
    let mut scene = Scene::new(shape);
    let (mut packets, mut allocations) = (0, 0);
    for _ in 0..TURNS {
        scene.prepare();
        let before = scene.packets();
        let made = allocation_counter::measure(|| scene.turn());
        packets += scene.packets() - before;
        allocations += made.count_total;
    }
    (packets, allocations)
}

#[test]
fn a_packet_that_need_not_wait_costs_no_allocation() {
    for shape in SHAPES.iter().filter(|shape| shape.is_direct()) {
        let (packets, allocations) = count(*shape);
        assert!(packets > 0, "{}: nothing was relayed", shape.name);
        assert_eq!(allocations, 0, "{}: {packets} packets", shape.name);
    }
}

#[test]
fn a_packet_that_waits_costs_one_allocation() {
    let stalled = Shape::named("stalled").expect("it is one of them");
    let (packets, allocations) = count(stalled);
    assert!(packets > 0);
    assert_eq!(allocations, packets, "each was copied once");
}
