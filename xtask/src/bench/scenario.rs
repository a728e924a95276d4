//! How relays are loaded; `row.rs` says which figures of it are looked at.

/// One way to load a relay.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) load: Load,
    /// How many CPUs both programs have together.
    pub(crate) cpus: usize,
    /// Lines for our relay's configuration file; a scenario that has some is for ours alone.
    pub(crate) config: Option<&'static str>,
}

/// What loads it, and with which arguments.
#[derive(Debug)]
pub(crate) enum Load {
    Generator(Generator),
    /// Two nodes of a tailnet in one process; and in place of that, where it is only to be seen
    /// that everything runs.
    Tailnet(&'static str, &'static str),
    /// Two tailscaled with a machine's network each, which needs root. `cargo xtask interop` sees
    /// that it runs.
    EndToEnd(&'static str),
}

/// A run of the load generator.
#[derive(Debug)]
pub(crate) struct Generator {
    /// `{stun_port}` is the relay's.
    pub(crate) args: &'static str,
    /// What follows them where it is only to be seen that everything runs.
    pub(crate) quick: &'static str,
    pub(crate) security: Security,
    /// Whether every packet must arrive. Where the relay has to drop, it need not; and what is
    /// sent at a fixed rate comes in bursts when something else keeps the CPU from the sender.
    pub(crate) lossless: bool,
    /// Whether there are only packets, so that the bare relay can take part.
    pub(crate) only_packets: bool,
}

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// TLS with this key exchange.
    Tls(&'static str),
    /// Plain HTTP.
    Plain,
}

const HYBRID: Security = Security::Tls("hybrid");

impl Scenario {
    const fn of(name: &'static str, generator: Generator) -> Self {
        Self {
            name,
            load: Load::Generator(generator),
            cpus: 1,
            config: None,
        }
    }

    const fn on_two_cpus(mut self) -> Self {
        self.cpus = 2;
        self
    }

    const fn without_tls(mut self) -> Self {
        if let Load::Generator(generator) = &mut self.load {
            generator.security = Security::Plain;
            generator.only_packets = false;
        }
        self
    }
}

/// As many packets as the relay takes, with nothing lost.
const fn packets(name: &'static str, args: &'static str) -> Scenario {
    let quick = "--seconds 0.2 --warm-up 0.1";
    Scenario::of(
        name,
        Generator {
            args,
            quick,
            security: HYBRID,
            lossless: true,
            only_packets: true,
        },
    )
}

/// Packets at a fixed rate. Where all must arrive, few are under way, whatever disturbs.
const fn paced(name: &'static str, args: &'static str) -> Scenario {
    let quick = "--seconds 0.3 --warm-up 0.1 --pps 400 --window 8";
    Scenario::of(
        name,
        Generator {
            args,
            quick,
            security: HYBRID,
            lossless: false,
            only_packets: true,
        },
    )
}

/// Clients that do something else than exchange packets, or not only that.
const fn clients(name: &'static str, args: &'static str, quick: &'static str) -> Scenario {
    Scenario::of(
        name,
        Generator {
            args,
            quick,
            security: HYBRID,
            lossless: true,
            only_packets: false,
        },
    )
}

const fn setup(name: &'static str, key_exchange: &'static str) -> Scenario {
    Scenario::of(
        name,
        Generator {
            args: "setup --count 1000",
            quick: "--count 20",
            security: Security::Tls(key_exchange),
            lossless: true,
            only_packets: false,
        },
    )
}

const fn slow_reader(name: &'static str, args: &'static str) -> Scenario {
    Scenario::of(
        name,
        Generator {
            args,
            quick: "--seconds 0.3 --warm-up 0.1",
            security: HYBRID,
            lossless: false,
            only_packets: false,
        },
    )
}

/// What a tailnet's TCP gets through the relay where the receiver is far away.
const fn far_away(name: &'static str, config: Option<&'static str>) -> Scenario {
    let path = "-bytes 20000000 -path-delay 50ms -path-rate 2500000";
    Scenario {
        name,
        load: Load::Tailnet(path, "-bytes 100000 -path-delay 5ms -path-rate 2500000"),
        cpus: 2,
        config,
    }
}

/// All scenarios, cheap ones first. Later arguments override earlier ones.
pub(crate) const SCENARIOS: &[Scenario] = &[
    packets("pair-16", "pairs --window 16"),
    packets("pair-32", "pairs --window 32"),
    packets("pair-16-small", "pairs --window 16 --size 64"),
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
    packets("plain-pair-16", "pairs --window 16").without_tls(),
    packets("plain-ping-pong", "pairs --window 1").without_tls(),
    packets("plain-pairs-8", "pairs --pairs 100 --window 8").without_tls(),
    setup("setup-x25519", "x25519"),
    setup("setup-hybrid", "hybrid"),
    clients("idle-4000", "idle --seconds 60", "--clients 20 --seconds 0"),
    clients(
        "idle-8000",
        "idle --clients 8000 --seconds 0",
        "--clients 40 --seconds 0",
    ),
    clients("churn", "churn --seconds 20", "--clients 20 --seconds 1"),
    Scenario::of(
        "busy-and-idle",
        Generator {
            args: "paced --idle 6000 --seconds 3",
            quick: "--seconds 0.3 --warm-up 0.1 --pps 400 --window 8 --idle 20",
            security: HYBRID,
            lossless: false,
            only_packets: true,
        },
    ),
    slow_reader("slow-reader-1", "slow-reader --rate 1000000"),
    slow_reader("slow-reader-5", "slow-reader --rate 5000000"),
    clients(
        "stun-1",
        "stun --stun-port {stun_port} --window 1",
        "--seconds 0.2 --warm-up 0.1",
    ),
    clients(
        "stun-32",
        "stun --stun-port {stun_port} --window 32",
        "--seconds 0.2 --warm-up 0.1",
    ),
    packets("two-cpus-pairs-8", "pairs --pairs 100 --window 8").on_two_cpus(),
    paced("two-cpus-quiet", "paced --seconds 4").on_two_cpus(),
    Scenario::of(
        "two-cpus-storm",
        Generator {
            args: "paced --seconds 4 --storm 200",
            quick: "--seconds 0.3 --warm-up 0.1 --pps 400 --window 8 --storm 20",
            security: HYBRID,
            lossless: false,
            only_packets: false,
        },
    )
    .on_two_cpus(),
    far_away("far-away", None),
    far_away("far-away-no-mark", Some("[tcp]\nunsent_bytes = 0\n")),
    Scenario {
        name: "two-tailscaled",
        load: Load::EndToEnd("-bytes 100000000"),
        cpus: 2,
        config: None,
    },
];
