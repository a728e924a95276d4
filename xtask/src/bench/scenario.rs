//! How relays are loaded; `row.rs` says which figures of it are looked at.

/// One way to load a relay.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Arguments of the load generator; `{stun_port}` is the relay's.
    pub(crate) args: &'static str,
    /// What follows them where it is only to be seen that everything runs.
    pub(crate) quick: &'static str,
    /// The CPUs of both programs, as taskset lists them.
    pub(crate) cpus: &'static str,
    /// What clients offer in the TLS handshake; none for plain HTTP.
    pub(crate) key_exchange: Option<&'static str>,
    /// Whether every packet must arrive. Where the relay has to drop, it need not; and what is
    /// sent at a fixed rate comes in bursts when something else keeps the CPU from the sender.
    pub(crate) lossless: bool,
}

const HYBRID: Option<&str> = Some("hybrid");
const SATURATED_QUICK: &str = "--seconds 0.2 --warm-up 0.1";
const PACED_QUICK: &str = "--seconds 0.3 --warm-up 0.1 --pps 400";

/// A scenario of packets on one CPU over TLS, with nothing lost.
const fn packets(name: &'static str, args: &'static str) -> Scenario {
    Scenario {
        name,
        args,
        quick: SATURATED_QUICK,
        cpus: ONE,
        key_exchange: HYBRID,
        lossless: true,
    }
}

const fn paced(name: &'static str, args: &'static str) -> Scenario {
    Scenario {
        quick: PACED_QUICK,
        lossless: false,
        ..packets(name, args)
    }
}

const fn setup(name: &'static str, key_exchange: &'static str) -> Scenario {
    let quick = "--count 20";
    Scenario {
        quick,
        key_exchange: Some(key_exchange),
        ..packets(name, "setup --count 1000")
    }
}

const ONE: &str = "0";
const TWO: &str = "0,1";

/// All scenarios, cheap ones first. Later arguments override earlier ones.
pub(crate) const SCENARIOS: &[Scenario] = &[
    packets("pair-16", "pairs --window 16"),
    packets("pair-32", "pairs --window 32"),
    packets("pair-16-small", "pairs --window 16 --size 64"),
    Scenario {
        key_exchange: None,
        ..packets("pair-16-plain", "pairs --window 16")
    },
    packets("ping-pong", "pairs --window 1"),
    paced("pair-1k", "paced --pairs 1 --pps 1000"),
    paced("pair-20k", "paced --pairs 1 --pps 20000"),
    paced("pairs-20k", "paced --pairs 100 --pps 20000 --seconds 3"),
    paced(
        "pairs-20k-mixed",
        "paced --pairs 100 --pps 20000 --poisson --mixed --seconds 3",
    ),
    packets("pairs-8", "pairs --pairs 100 --window 8"),
    packets("fan-in", "fan-in --many 16 --window 2"),
    packets("fan-out", "fan-out --many 16 --window 4"),
    setup("setup-x25519", "x25519"),
    setup("setup-hybrid", "hybrid"),
    Scenario {
        quick: "--clients 20 --seconds 0",
        ..packets("idle-4000", "idle --seconds 60")
    },
    Scenario {
        quick: "--clients 40 --seconds 0",
        ..packets("idle-8000", "idle --clients 8000 --seconds 0")
    },
    Scenario {
        quick: "--clients 20 --seconds 1",
        ..packets("churn", "churn --seconds 20")
    },
    Scenario {
        quick: "--seconds 0.3 --warm-up 0.1 --pps 400 --idle 20",
        ..paced("busy-and-idle", "paced --idle 6000 --seconds 3")
    },
    Scenario {
        quick: "--seconds 0.3 --warm-up 0.1",
        lossless: false,
        ..packets("slow-reader-1", "slow-reader --rate 1000000")
    },
    Scenario {
        quick: "--seconds 0.3 --warm-up 0.1",
        lossless: false,
        ..packets("slow-reader-5", "slow-reader --rate 5000000")
    },
    packets("stun-1", "stun --stun-port {stun_port} --window 1"),
    packets("stun-32", "stun --stun-port {stun_port} --window 32"),
    Scenario {
        cpus: TWO,
        ..packets("two-cpus-pairs-8", "pairs --pairs 100 --window 8")
    },
    Scenario {
        cpus: TWO,
        ..paced("two-cpus-quiet", "paced --seconds 4")
    },
    Scenario {
        quick: "--seconds 0.3 --warm-up 0.1 --pps 400 --storm 20",
        cpus: TWO,
        ..paced("two-cpus-storm", "paced --seconds 4 --storm 200")
    },
];
