//! The relay's numbers for a system of one's own: here a line for each, as StatsD takes them.

use std::fmt::Write;
use std::net::UdpSocket;
use std::time::Duration;

use derp_proto::NodePrivate;
use derp_server::{ListenOptions, MetricKind, MetricVisitor, Sample, Server, Value};
use tokio::net::TcpListener;

const TO: &str = "127.0.0.1:8125";

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random bytes");
    let server = Server::builder(NodePrivate::from_random(seed)).start()?;
    let listener = TcpListener::bind("127.0.0.1:3340").await?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener, ListenOptions::plain("http")).await });
    let mut every = tokio::time::interval(Duration::from_secs(10));
    loop {
        every.tick().await;
        for line in lines(&server).lines() {
            // Whoever does not listen misses some.
            let _missed = socket.send_to(line.as_bytes(), TO);
        }
    }
}

/// What the relay counts, a line for each.
pub(crate) fn lines(server: &Server) -> String {
    let mut sink = StatsD::default();
    // Reading counts nothing and stops nobody, however slow the sink is.
    server.metrics().visit(&mut sink);
    sink.0
}

#[derive(Default)]
struct StatsD(String);

impl MetricVisitor for StatsD {
    fn sample(&mut self, sample: &Sample<'_>) {
        self.0.push_str(sample.name);
        for (_, value) in sample.labels {
            self.0.push('.');
            self.0.push_str(value);
        }
        let kind = match sample.kind {
            MetricKind::Counter => 'c',
            _ => 'g',
        };
        // Text takes everything that is written to it.
        let _always = match sample.value {
            Value::Whole(count) => writeln!(self.0, ":{count}|{kind}"),
            Value::Real(measure) => writeln!(self.0, ":{measure}|{kind}"),
        };
    }
}
