use std::sync::Mutex;

use super::*;

/// Knows a few names; what it knows can change.
#[derive(Default)]
struct Table(Mutex<BTreeMap<&'static str, Vec<IpAddr>>>);

impl Table {
    fn set(&self, name: &'static str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name, addresses);
    }
}

impl Resolve for Table {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.0.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Each name `x%y` says x and y.
    async fn texts(&self, name: &str) -> io::Result<Vec<String>> {
        if name == "none" {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(name.split('%').map(str::to_owned).collect())
    }
}

impl Resolve for Arc<Table> {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Table::resolve(self, name).await
    }

    async fn texts(&self, name: &str) -> io::Result<Vec<String>> {
        Table::texts(self, name).await
    }
}

/// Takes for ever.
struct Stuck;

impl Resolve for Stuck {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        std::future::pending().await
    }

    async fn texts(&self, _: &str) -> io::Result<Vec<String>> {
        std::future::pending().await
    }
}

fn dns(names: &[&str]) -> BootstrapDns {
    BootstrapDns::new(Names {
        published: names.iter().map(|&name| name.to_owned()).collect(),
        unpublished: Vec::new(),
    })
}

async fn text(dns: &BootstrapDns, resolver: &impl Resolve) -> Option<String> {
    let document = dns
        .refresh(resolver, |addresses| addresses.reverse())
        .await?;
    Some(String::from_utf8(document).unwrap())
}

#[tokio::test]
async fn the_answer_is_the_references_with_the_addresses_shuffled() {
    let table = Table::default();
    table.set("b.example.com", &["192.0.2.2"]);
    table.set("a.example.com", &["192.0.2.1", "2001:db8::1"]);
    let dns = dns(&["a.example.com", "b.example.com", "gone.example.com"]);
    let expected = "{\n\t\"a.example.com\": [\n\t\t\"2001:db8::1\",\n\t\t\"192.0.2.1\"\n\t],\n\t\
                    \"b.example.com\": [\n\t\t\"192.0.2.2\"\n\t]\n}";
    assert_eq!(text(&dns, &table).await.as_deref(), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn without_names_or_in_an_outage_there_is_no_new_answer() {
    assert_eq!(text(&dns(&[]), &Table::default()).await, None);
    let dns = dns(&["a.example.com"]);
    assert_eq!(text(&dns, &Table::default()).await, None);
    let start = tokio::time::Instant::now();
    assert_eq!(text(&dns, &Stuck).await, None);
    assert_eq!(start.elapsed(), BUDGET);
}

#[tokio::test(start_paused = true)]
async fn names_are_looked_up_every_ten_minutes() {
    let table = Arc::new(Table::default());
    table.set("a.example.com", &["192.0.2.1"]);
    let dns = dns(&["a.example.com"]);
    let start = tokio::time::Instant::now();
    let answers = Mutex::new(Vec::new());
    let publish = |document: Vec<u8>| {
        let document = String::from_utf8(document).unwrap();
        answers
            .lock()
            .unwrap()
            .push((start.elapsed(), document.contains("192.0.2.9")));
    };
    let script = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        table.set("a.example.com", &["192.0.2.9"]);
        tokio::time::sleep(REFRESH).await;
    };
    tokio::select! {
        () = dns.keep_fresh(Arc::clone(&table), |_| {}, publish) => panic!("it never ends"),
        () = script => {}
    }
    assert_eq!(
        *answers.lock().unwrap(),
        [(Duration::ZERO, false), (REFRESH, true)]
    );
}

#[tokio::test]
async fn requests_are_counted_by_what_they_found() {
    let table = Table::default();
    table.set("full", &["192.0.2.1"]);
    table.set("bare", &[]);
    let dns = dns(&["full", "bare"]);
    assert!(text(&dns, &table).await.is_some());
    for query in [
        None,
        Some("full"),
        Some("full"),
        Some("bare"),
        Some("x"),
        Some("y"),
        Some("x"),
    ] {
        assert_eq!(dns.answer(query, None), None);
    }
    assert_eq!(
        values(&dns),
        [
            "bootstrap_dns_published_hits 2",
            "bootstrap_dns_published_misses 1",
            "bootstrap_dns_queried_domains 4",
            "bootstrap_dns_requests 7",
            "bootstrap_dns_unpublished_hits 0",
            "bootstrap_dns_unpublished_misses 3",
            "bootstrap_dns_unpublished_percent_misses 0",
        ]
    );
}

/// The counters, as lines.
fn values(dns: &BootstrapDns) -> Vec<String> {
    let mut metrics = Exposition::new();
    dns.expose(&mut metrics);
    let text = metrics.to_string();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_unpublished_name_is_told_to_whom_its_rollout_has_come() {
    let table = Table::default();
    for name in ["all", "half", "nobody", "unclear", "later", "public"] {
        table.set(name, &["192.0.2.1", "2001:db8::1"]);
    }
    table.set("bare", &[]);
    let unpublished = [
        ("all", None),
        ("half", Some("0%x%50%101")),
        ("nobody", Some("0")),
        ("unclear", Some("many%-1")),
        ("later", Some("none")),
        ("bare", None),
        ("gone", None),
    ];
    let dns = BootstrapDns::new(Names {
        published: vec!["public".to_owned()],
        unpublished: unpublished
            .map(|(name, txt)| Unpublished {
                name: name.to_owned(),
                txt: txt.map(str::to_owned),
            })
            .to_vec(),
    });
    let public = text(&dns, &table).await.unwrap();
    assert!(
        public.contains("public") && !public.contains("all"),
        "{public}"
    );
    let told = |name: &str, from: &str| {
        let answer = dns.answer(Some(name), from.parse().ok())?;
        Some(String::from_utf8(answer).unwrap())
    };
    // Of these two the reference's dice let the first one in.
    let (lucky, unlucky) = ("198.51.100.77", "192.0.2.1");
    let answer = |name: &str| {
        format!("{{\n\t\"{name}\": [\n\t\t\"192.0.2.1\",\n\t\t\"2001:db8::1\"\n\t]\n}}")
    };
    assert_eq!(told("all", unlucky), Some(answer("all")));
    assert_eq!(told("all", "nowhere"), Some(answer("all")));
    assert_eq!(told("half", lucky), Some(answer("half")));
    assert_eq!(told("half", unlucky), None);
    assert_eq!(told("half", "nowhere"), None);
    for name in [
        "nobody", "unclear", "later", "bare", "gone", "public", "other",
    ] {
        assert_eq!(told(name, lucky), None, "{name}");
    }
    assert_eq!(
        values(&dns),
        [
            "bootstrap_dns_published_hits 1",
            "bootstrap_dns_published_misses 0",
            "bootstrap_dns_queried_domains 9",
            "bootstrap_dns_requests 12",
            "bootstrap_dns_unpublished_hits 8",
            "bootstrap_dns_unpublished_misses 8",
            "bootstrap_dns_unpublished_percent_misses 5",
        ]
    );
    // In an outage what was known holds; a name that is not wanted any more is forgotten.
    *table.0.lock().unwrap() = BTreeMap::new();
    assert_eq!(text(&dns, &table).await, None);
    assert_eq!(told("all", lucky), Some(answer("all")));
    assert!(dns.set_names(Names::default()));
    assert_eq!(text(&dns, &table).await.as_deref(), Some(""));
    assert_eq!(told("all", lucky), None);
}
