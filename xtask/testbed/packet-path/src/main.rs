//! `packet-path SHAPE TURNS`: lets a worker take its turns, for a program that counts what they do.
//!
//! Prints how many packets they dealt with, or without arguments the names of all shapes. The turns
//! that count are those of [`counted_turn`]; what comes before and between them is the clients'
//! work.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::process::ExitCode;

use testbed_packet_path::{SHAPES, Scene, Shape};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(name) = words.next() else {
        for shape in SHAPES {
            println!("{}", shape.name);
        }
        return ExitCode::SUCCESS;
    };
    let shape = Shape::named(&name);
    let turns: Option<usize> = words.next().and_then(|turns| turns.parse().ok());
    let (Some(shape), Some(turns)) = (shape, turns) else {
        return ExitCode::FAILURE;
    };
    let mut scene = Scene::new(shape);
    let mut packets = 0;
    for _ in 0..turns {
        scene.prepare();
        let before = scene.packets();
        counted_turn(&mut scene);
        packets += scene.packets() - before;
    }
    println!("{packets}");
    ExitCode::SUCCESS
}

/// The counter is switched on by this function's name.
#[inline(never)]
fn counted_turn(scene: &mut Scene) {
    scene.turn();
}
