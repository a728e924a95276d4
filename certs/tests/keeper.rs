//! A keeper's year in a moment: the clock is the runtime's, which jumps from one wait to the next.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use derp_certs::schedule::{Life, Window};
use derp_certs::{
    Authority, Failure, FailureKind, Held, Issued, Keeper, KeeperCounters, Store, Subject,
    WallClock, Wanted,
};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::DnsName;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What certificates are valid for here.
const LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

fn clock() -> WallClock {
    let (start, base) = (Instant::now(), SystemTime::UNIX_EPOCH + 20_780 * DAY);
    Arc::new(move || base + start.elapsed())
}

fn subject() -> Subject {
    Subject::Name(DnsName::try_from("derp.example.com").expect("a name"))
}

/// Issues certificates, unless it is out.
struct Fake {
    clock: WallClock,
    is_out: AtomicBool,
    /// As the library that speaks ACME would send: a nonce and the order.
    requests: AtomicU32,
    window: Mutex<Option<Window>>,
    issued: Mutex<Vec<SystemTime>>,
}

impl Fake {
    fn new(clock: &WallClock) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(clock),
            is_out: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            window: Mutex::new(None),
            issued: Mutex::default(),
        })
    }

    fn set_out(&self, is_out: bool) {
        self.is_out.store(is_out, Ordering::Relaxed);
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// When certificates were issued, in days from the first.
    fn days(&self) -> Vec<u64> {
        let issued = self.issued.lock().expect("no panic");
        let since = |time: &SystemTime| time.duration_since(issued[0]).expect("in order");
        issued
            .iter()
            .map(|time| since(time).as_secs() / 86_400)
            .collect()
    }
}

#[async_trait]
impl Authority for Fake {
    async fn obtain(&self, wanted: &Wanted<'_>) -> Result<Issued, Failure> {
        self.requests.fetch_add(2, Ordering::Relaxed);
        if self.is_out.load(Ordering::Relaxed) {
            return Err(Failure::new(FailureKind::Unreachable, "status 503"));
        }
        let now = (self.clock)();
        self.issued.lock().expect("no panic").push(now);
        let mut params = CertificateParams::new([wanted.subject.to_string()]).expect("a name");
        params.not_before = now.into();
        params.not_after = (now + LIFE).into();
        let key = KeyPair::generate().expect("a key");
        Ok(Issued {
            chain: params.self_signed(&key).expect("a certificate").pem(),
            key: key.serialize_pem().into(),
        })
    }

    async fn renewal_window(&self, _: &Held) -> Result<Option<(Window, Duration)>, Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.is_out.load(Ordering::Relaxed) {
            return Err(Failure::new(FailureKind::Unreachable, "status 503"));
        }
        let window = *self.window.lock().expect("no panic");
        Ok(window.map(|window| (window, 6 * HOUR)))
    }

    fn name(&self) -> &str {
        "fake"
    }
}

/// A keeper that runs.
struct Running {
    keeper: Arc<Keeper>,
    task: JoinHandle<()>,
    served: Arc<Mutex<Vec<Life>>>,
    counters: Arc<KeeperCounters>,
}

impl Running {
    fn start(dir: &std::path::Path, fake: &Arc<Fake>) -> Self {
        Self::by_clock(dir, fake, &fake.clock)
    }

    fn by_clock(dir: &std::path::Path, fake: &Arc<Fake>, clock: &WallClock) -> Self {
        let counters = Arc::new(KeeperCounters::default());
        let store = Store::open(dir).expect("a directory");
        let keeper = Keeper::new(
            subject(),
            store,
            Arc::clone(fake) as Arc<dyn Authority>,
            Arc::clone(clock),
            Arc::clone(&counters),
        );
        let keeper = Arc::new(keeper.expect("nothing is broken"));
        let served = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn({
            let (keeper, served) = (Arc::clone(&keeper), Arc::clone(&served));
            async move {
                keeper
                    .keep(|held| served.lock().expect("no panic").push(held.life()))
                    .await;
            }
        });
        Self {
            keeper,
            task,
            served,
            counters,
        }
    }

    fn stop(self) {
        self.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_ordered_at_once_and_renewed_for_a_year() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&clock());
    let keeper = Running::start(dir.path(), &fake);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.days(), [0]);
    sleep(365 * DAY).await;
    let days = fake.days();
    assert_eq!(days.len(), 7, "{days:?}");
    for pair in days.windows(2) {
        assert!((56..=60).contains(&(pair[1] - pair[0])), "{days:?}");
    }
    assert_eq!(keeper.served.lock().unwrap().len(), 7);
    // An authority that gives no advice about renewals is asked for it once a day.
    assert!(fake.requests() < 7 * 2 + 380, "{}", fake.requests());
    let orders: Vec<_> = keeper.counters.orders().collect();
    assert_eq!(orders[0], ("issued", 7));
    keeper.stop();
}

/// Several times over, because pauses have a random part.
#[tokio::test(start_paused = true)]
async fn an_outage_of_a_week_costs_fifty_requests_at_most_and_no_certificate() {
    for _ in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new(&clock());
        let keeper = Running::start(dir.path(), &fake);
        sleep(56 * DAY).await;
        let before = fake.requests();
        let held = keeper.keeper.held().unwrap();
        fake.set_out(true);
        sleep(7 * DAY).await;
        let sent = fake.requests() - before;
        assert!((10..=50).contains(&sent), "{sent} requests");
        assert_eq!(keeper.keeper.held().unwrap().life(), held.life());
        assert!(keeper.counters.failures_in_a_row() >= 5);
        fake.set_out(false);
        sleep(DAY).await;
        assert_eq!(fake.days().len(), 2);
        assert_eq!(keeper.counters.failures_in_a_row(), 0);
        keeper.stop();
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_from_the_first_start_on_costs_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&clock());
    fake.set_out(true);
    let keeper = Running::start(dir.path(), &fake);
    sleep(7 * DAY).await;
    let sent = fake.requests();
    assert!((30..=50).contains(&sent), "{sent} requests");
    // Somebody has mended it, and does not want to wait.
    fake.set_out(false);
    keeper.keeper.hurry();
    sleep(Duration::from_secs(61)).await;
    assert!(keeper.keeper.held().is_some());
    keeper.stop();
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_restarted_every_five_seconds_is_no_storm() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&clock());
    fake.set_out(true);
    for _ in 0..1_000 {
        let keeper = Running::start(dir.path(), &fake);
        sleep(Duration::from_secs(5)).await;
        keeper.stop();
    }
    // 5,000 seconds; attempts after 0, 1, 3, 7, 15, 31 and 63 minutes.
    assert!((10..=14).contains(&fake.requests()), "{}", fake.requests());
}

#[tokio::test(start_paused = true)]
async fn impatience_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&clock());
    fake.set_out(true);
    let keeper = Running::start(dir.path(), &fake);
    for _ in 0..3_600 {
        keeper.keeper.hurry();
        sleep(Duration::from_secs(1)).await;
    }
    assert!(fake.requests() <= 2 * 61, "{}", fake.requests());
    keeper.stop();
}

#[tokio::test(start_paused = true)]
async fn a_kept_certificate_is_served_without_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&clock());
    let first = Running::start(dir.path(), &fake);
    sleep(HOUR / 4).await;
    first.stop();
    fake.set_out(true);
    let before = fake.requests();
    let second = Running::start(dir.path(), &fake);
    assert!(second.keeper.held().is_some());
    sleep(HOUR / 4).await;
    assert_eq!(fake.requests(), before);
    second.stop();
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_served_until_there_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&clock());
    let first = Running::start(dir.path(), &fake);
    sleep(HOUR).await;
    first.stop();
    fake.set_out(true);
    sleep(100 * DAY).await;
    let second = Running::start(dir.path(), &fake);
    sleep(HOUR).await;
    assert!(second.keeper.held().unwrap().life().not_after < (fake.clock)());
    fake.set_out(false);
    second.keeper.hurry();
    sleep(HOUR).await;
    assert!(second.keeper.held().unwrap().life().not_after > (fake.clock)());
    second.stop();
}

#[tokio::test(start_paused = true)]
async fn the_authority_can_ask_for_a_renewal_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(&clock());
    let keeper = Running::start(dir.path(), &fake);
    sleep(2 * DAY).await;
    // As after a mistake of the authority, which then revokes.
    let past = (fake.clock)() - DAY;
    *fake.window.lock().unwrap() = Some(Window {
        start: past - DAY,
        end: past,
    });
    sleep(26 * HOUR).await;
    assert!(fake.days().len() >= 2, "{:?}", fake.days());
    keeper.stop();
}

#[tokio::test(start_paused = true)]
async fn certificates_that_are_due_when_they_come_are_no_storm() {
    let dir = tempfile::tempdir().unwrap();
    let right = clock();
    let ahead: WallClock = Arc::new({
        let right = Arc::clone(&right);
        move || right() + 70 * DAY
    });
    let fake = Fake::new(&right);
    let keeper = Running::by_clock(dir.path(), &fake, &ahead);
    for day in 0..3 {
        let before = fake.days().len();
        sleep(DAY).await;
        let orders = fake.days().len() - before;
        assert!((1..=10).contains(&orders), "{orders} orders on day {day}");
    }
    assert!(keeper.keeper.held().is_some(), "it is served all the same");
    assert!(keeper.counters.failures_in_a_row() > 5);
    keeper.stop();
}

/// A clock that is set forward makes one attempt, not one after the other.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_no_storm() {
    let dir = tempfile::tempdir().unwrap();
    let jump = Arc::new(Mutex::new((0, true)));
    let base = clock();
    let jumping: WallClock = Arc::new({
        let jump = Arc::clone(&jump);
        move || match *jump.lock().expect("no panic") {
            (days, true) => base() + days * DAY,
            (days, false) => base() - days * DAY,
        }
    });
    let fake = Fake::new(&jumping);
    let keeper = Running::start(dir.path(), &fake);
    sleep(HOUR).await;
    fake.set_out(true);
    for to in [(365, true), (0, true), (365, false), (0, true)] {
        let before = fake.requests();
        *jump.lock().unwrap() = to;
        sleep(DAY).await;
        assert!(
            fake.requests() - before <= 26,
            "{to:?}: {}",
            fake.requests() - before
        );
    }
    assert!(keeper.keeper.held().is_some());
    keeper.stop();
}
