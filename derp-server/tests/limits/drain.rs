//! How a relay is emptied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derp_client::Received;
use derp_server::{DrainPlan, DrainReport};
use derp_verify::{Candidate, Verdict, Verifier, VerifyError, async_trait};
use tokio::sync::Notify;

use crate::support::time::PATIENCE;
use crate::support::{Kind, Relay, eventually, login, over_every_kind, within};

over_every_kind! {
    a_drain_tells_everybody_and_then_closes,
    one_that_has_not_read_all_yet_is_closed_when_it_has,
    a_drain_takes_no_longer_than_it_may,
    nobody_comes_in_while_a_relay_is_drained,
}

const TRY_FOR: Duration = Duration::from_secs(10);

async fn a_drain_tells_everybody_and_then_closes(relay: &Relay) {
    let mut clients = [
        relay.client(1).await,
        relay.client(2).await,
        relay.client(3).await,
    ];
    let spread = Duration::from_millis(60);
    let plan = DrainPlan {
        spread,
        try_for: TRY_FOR,
        hard_stop: PATIENCE,
    };
    let draining = relay.server.drain(plan);
    let watching = async {
        let mut advice = Vec::new();
        for client in &mut clients {
            let told = client.closed().await;
            let [
                Received::Restarting {
                    reconnect_in,
                    try_for,
                },
            ] = told[..]
            else {
                panic!("{told:?} is not what it was to be told");
            };
            assert_eq!(try_for, TRY_FOR);
            advice.push(reconnect_in);
        }
        advice.sort_unstable();
        advice
    };
    let (report, advice) = within("the drain", async { tokio::join!(draining, watching) }).await;
    assert_eq!(
        report,
        DrainReport {
            told: 3,
            cut_off: 0
        }
    );
    // Each is to come back when its own connection ends.
    assert_eq!(advice, [0, 20, 40].map(Duration::from_millis));
    assert_eq!(relay.server.clients(), []);
}

async fn one_that_has_not_read_all_yet_is_closed_when_it_has(relay: &Relay) {
    relay.tune(|tunables| tunables.notsent_low_water = Some(16 << 10));
    let mut a = relay.client(1).await;
    // For the time being, nobody polls it.
    let mut slow = relay.client(2).await;
    let mut sent = 0_u64;
    while relay.dropped("queue_head") == 0 {
        a.send(slow.key, &[3; 50_000]).await;
        assert_eq!(a.received().await, []);
        sent += 1;
    }
    let dropped = relay.dropped("queue_head");
    let plan = DrainPlan {
        spread: Duration::ZERO,
        try_for: TRY_FOR,
        hard_stop: PATIENCE,
    };
    let draining = relay.server.drain(plan);
    let reading = async {
        // All others go in between.
        a.closed().await;
        slow.closed().await
    };
    let (report, told) = within("the drain", async { tokio::join!(draining, reading) }).await;
    assert_eq!((report.told, report.cut_off), (2, 0));
    let count = |is: fn(&Received) -> bool| told.iter().filter(|one| is(one)).count() as u64;
    let packets = count(|one| matches!(one, Received::Packet { .. }));
    assert_eq!(packets, sent - dropped);
    assert_eq!(count(|one| matches!(one, Received::Restarting { .. })), 1);
}

async fn a_drain_takes_no_longer_than_it_may(relay: &Relay) {
    let mut clients = [relay.client(1).await, relay.client(2).await];
    let hard_stop = Duration::from_millis(50);
    let plan = DrainPlan {
        spread: Duration::from_secs(3600),
        try_for: TRY_FOR,
        hard_stop,
    };
    let report = within("the drain", relay.server.drain(plan)).await;
    // One had to go at once, and the other at the end.
    assert_eq!(report.told, 2);
    assert!(report.cut_off <= 1, "{report:?}");
    for client in &mut clients {
        let told = client.closed().await;
        assert!(
            matches!(told[..], [Received::Restarting { .. }]),
            "{told:?}"
        );
    }
    relay.has_connections(0).await;
}

async fn nobody_comes_in_while_a_relay_is_drained(relay: &Relay) {
    let mut pending = relay.raw().await;
    pending.greeting().await;
    let client = relay.client(1).await;
    let plan = DrainPlan {
        spread: Duration::from_millis(20),
        try_for: TRY_FOR,
        hard_stop: PATIENCE,
    };
    let report = within("the drain", relay.server.drain(plan)).await;
    assert_eq!(
        report,
        DrainReport {
            told: 1,
            cut_off: 0
        }
    );
    drop(client);
    assert!(!relay.admits(&login(2)).await);
    // Nor does one that was on its way.
    let server = derp_proto::ServerIdentity::known(relay.server.public_key());
    let mut hello = Vec::new();
    let late = login(3);
    server
        .hello(&late.key, &late.info, [9; 24], &mut hello)
        .expect("a key");
    pending.send(&hello).await;
    assert_eq!(pending.closed().await, []);
    assert_eq!(relay.server.clients(), []);
}

#[tokio::test]
async fn of_those_who_come_in_while_a_drain_begins_nobody_stays() {
    for kind in [Kind::Plain, Kind::NoWorkers, Kind::Upgraded] {
        for _ in 0..10 {
            let relay = Relay::start(kind).await;
            // They do not leave by themselves.
            let coming = async {
                let logins = [1, 2, 3, 4].map(login);
                let [a, b, c, d] = logins.each_ref().map(|login| relay.connect(login));
                tokio::join!(a, b, c, d)
            };
            let draining = async {
                let gauges = relay.server.metrics().gauges();
                eventually("one is coming", || gauges.accepts.get() > 0).await;
                let plan = DrainPlan {
                    spread: Duration::ZERO,
                    try_for: TRY_FOR,
                    hard_stop: PATIENCE,
                };
                relay.server.drain(plan).await
            };
            let (clients, report) = tokio::join!(coming, draining);
            assert_eq!(report.cut_off, 0, "{kind:?}");
            // One that came at the last moment is seen by nobody but itself.
            eventually("all have left", || relay.server.clients().is_empty()).await;
            relay.end().await;
            drop(clients);
        }
    }
}

/// Asked, it waits until it is told to answer.
#[derive(Debug, Default)]
struct Gate {
    is_asked: AtomicBool,
    open: Notify,
}

#[async_trait]
impl Verifier for Gate {
    async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        self.is_asked.store(true, Ordering::Relaxed);
        self.open.notified().await;
        Ok(Verdict::allow())
    }
}

/// A client that the verifier allows when the relay has ended.
async fn allowed_too_late(kind: Kind, end: impl AsyncFnOnce(&Relay)) {
    let gate = Arc::new(Gate::default());
    let verifier = Arc::clone(&gate);
    let relay = Relay::start_with(kind, |builder| builder.shared_verifier(verifier)).await;
    let mut late = relay.raw().await;
    let server = late.greeting().await;
    let mut hello = Vec::new();
    let login = login(1);
    server
        .hello(&login.key, &login.info, [9; 24], &mut hello)
        .expect("a key");
    late.send(&hello).await;
    eventually("it is asked", || gate.is_asked.load(Ordering::Relaxed)).await;
    end(&relay).await;
    gate.open.notify_one();
    assert_eq!(late.closed().await, [], "{kind:?}");
    assert_eq!(relay.server.clients(), []);
    relay.end().await;
}

#[tokio::test]
async fn one_that_is_allowed_after_a_drain_does_not_stay() {
    for kind in [Kind::Plain, Kind::Tls13, Kind::Tls12, Kind::Upgraded] {
        let plan = DrainPlan {
            spread: Duration::ZERO,
            try_for: TRY_FOR,
            hard_stop: Duration::ZERO,
        };
        allowed_too_late(kind, async |relay: &Relay| {
            relay.server.drain(plan).await;
        })
        .await;
    }
}

#[tokio::test]
async fn one_that_is_allowed_after_a_shutdown_does_not_stay() {
    for kind in [Kind::Plain, Kind::Tls13, Kind::Tls12, Kind::Upgraded] {
        allowed_too_late(kind, async |relay: &Relay| relay.server.shutdown().await).await;
    }
}
