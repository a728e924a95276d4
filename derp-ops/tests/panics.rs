//! What the log hears of panics. One test to a program: the hook is the process's.

use std::io;
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex};

use derp_ops::panics;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn a_storm_of_panics_is_a_few_lines() {
    let log = Buffer::default();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
    let subscriber = subscriber.with_writer(log.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    panics::log();
    for n in 0..1000 {
        let ended = catch_unwind(|| panic!("number {n}\nof many"));
        ended.expect_err("it panics");
    }
    let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    // As many again for each second that it takes.
    assert!((5..=50).contains(&lines.len()), "{}", lines.len());
    let first = &lines[0];
    assert_eq!(first["level"], "ERROR");
    assert_eq!(first["panic"], "number 0\nof many");
    let place = first["place"].as_str().expect("a place");
    assert!(place.starts_with("derp-ops/tests/panics.rs:"), "{place}");
    assert_eq!(
        (&first["untold"], &lines[4]["panic"]),
        (&0.into(), &"number 4\nof many".into())
    );
}
