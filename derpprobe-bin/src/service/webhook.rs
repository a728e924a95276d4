//! Tells a web server of changes: a JSON document is posted, with the changes of a few seconds
//! together.
//!
//! ```json
//! {
//!   "text": "bad: derp/nyc/900a/tls: the certificate has expired",
//!   "changes": [{"name": "derp/nyc/900a/tls", "state": "bad", "since": "2026-11-23T09:14:22Z", …}]
//! }
//! ```
//!
//! `text` has a line for each, which is what chat servers show of it (Slack, Mattermost).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri};
use humantime::format_rfc3339_seconds;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::news::Item;
use super::verdict::Now;
use crate::deadline::Deadline;
use crate::output::outcome_json;
use crate::report::{in_words, printable};
use crate::web::{Web, WebError};

/// How long further changes are waited for, so that a relay that dies is one message.
const GATHER: Duration = Duration::from_secs(2);
/// How many changes are in a message.
const MOST: usize = 200;
/// How many lines its text has; chat servers cut longer ones.
const MOST_LINES: usize = 20;
/// How long a post may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before each further attempt.
const AGAIN_AFTER: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];

/// Where changes are posted.
#[derive(Clone)]
pub struct Webhook {
    /// The address, which may hold a secret itself.
    pub url: Uri,
    /// What proves who posts.
    pub authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.url.host())
            .finish_non_exhaustive()
    }
}

/// How posting went.
#[derive(Debug, Default)]
pub struct Posts {
    /// Messages that arrived.
    pub good: AtomicU64,
    /// Messages that were given up.
    pub bad: AtomicU64,
}

/// Posts changes as long as there may be any.
pub async fn post(hook: Webhook, web: Web, mut changes: mpsc::Receiver<Item>, posts: Arc<Posts>) {
    while let Some(first) = changes.recv().await {
        let mut items = vec![first];
        let until = Instant::now() + GATHER;
        while items.len() < MOST {
            match timeout_at(until, changes.recv()).await {
                Ok(Some(item)) => items.push(item),
                Ok(None) | Err(_) => break,
            }
        }
        match deliver(&hook, &web, message(&items)).await {
            Ok(()) => posts.good.fetch_add(1, Ordering::Relaxed),
            Err(err) => {
                // The words have the address, which may be a secret.
                let host = hook.url.host().unwrap_or_default();
                let error = in_words(&err).replace(&hook.url.to_string(), host);
                tracing::warn!(changes = items.len(), error, "the webhook does not take it");
                posts.bad.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

async fn deliver(hook: &Webhook, web: &Web, message: Bytes) -> Result<(), WebError> {
    let mut pauses = AGAIN_AFTER.iter();
    loop {
        let (document, deadline) = (message.clone(), Deadline::after(PATIENCE));
        let posted = web.post(&hook.url, document, hook.authorization.as_ref(), deadline);
        let err = match posted.await {
            Ok(()) => return Ok(()),
            Err(err) => err,
        };
        match pauses.next() {
            Some(pause) if may_pass(&err) => sleep(*pause).await,
            _ => return Err(err),
        }
    }
}

/// Whether it may be otherwise in a while.
fn may_pass(err: &WebError) -> bool {
    match err {
        WebError::Status { status, .. } => {
            status.is_server_error() || matches!(status.as_u16(), 408 | 429)
        }
        err => err.is_transport(),
    }
}

fn message(items: &[Item]) -> Bytes {
    let mut lines: Vec<_> = items.iter().take(MOST_LINES).map(line).collect();
    if items.len() > MOST_LINES {
        lines.push(format!("and {} more", items.len() - MOST_LINES));
    }
    let changes: Vec<_> = items.iter().map(change).collect();
    let document = json!({ "text": lines.join("\n"), "changes": changes });
    document.to_string().into()
}

fn line(Item { outcome, change }: &Item) -> String {
    let name = printable(&outcome.name);
    let line = match (change.now, &outcome.result) {
        (Now::Good, _) => format!("good again: {name}"),
        (Now::Bad, Ok(())) => format!("bad: {name}"),
        (now, Err(why)) => format!("{}: {name}: {}", now.as_str(), printable(why)),
        (Now::Gone, Ok(())) => format!("gone: {name}"),
    };
    as_chat_text(&line)
}

/// Text without what chat servers take for links and mentions: Slack has entities for these three
/// characters and no others.
fn as_chat_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn change(Item { outcome, change }: &Item) -> Value {
    let mut value = outcome_json(outcome);
    value["state"] = change.now.as_str().into();
    value["since"] = format_rfc3339_seconds(change.since).to_string().into();
    if let Some(since) = change.was_since {
        value["wasSince"] = format_rfc3339_seconds(since).to_string().into();
    }
    value
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rustls::RootCertStore;
    use tokio::net::TcpListener;

    use super::super::news::News;
    use super::super::verdict::Change;
    use super::*;
    use crate::outcome::{Findings, Outcome};
    use crate::subject::Subject;
    use crate::trust::Trust;
    use crate::web::script;

    fn item(name: &str, result: Result<(), &str>) -> (Outcome, Change) {
        let outcome = Outcome {
            name: name.to_owned(),
            subject: Arc::new(Subject::map()),
            took: Duration::from_millis(1_500),
            result: result.map_err(str::to_owned),
            findings: Findings::default(),
        };
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_425_262);
        let change = Change {
            now: if result.is_ok() { Now::Good } else { Now::Bad },
            since,
            was_since: None,
        };
        (outcome, change)
    }

    /// Tells of these changes to a server that answers so; its requests, and how posting went.
    async fn told(changes: &[(Outcome, Change)], answers: &[&str]) -> (Vec<String>, (u64, u64)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=secret", listener.local_addr().unwrap());
        let answers = answers.iter().map(|answer| {
            format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into()
        });
        let server = tokio::spawn(script::serve(listener, answers.collect()));
        let (news, receiver) = News::channel();
        for (outcome, change) in changes {
            news.tell(outcome, *change);
        }
        drop(news);
        let hook = Webhook {
            url: url.parse().unwrap(),
            authorization: Some(HeaderValue::from_static("Bearer t")),
        };
        let web = Web::new(&Trust::of(RootCertStore::empty()));
        let posts = Arc::new(Posts::default());
        post(hook, web, receiver, Arc::clone(&posts)).await;
        let (good, bad) = (
            posts.good.load(Ordering::Relaxed),
            posts.bad.load(Ordering::Relaxed),
        );
        (server.await.unwrap(), (good, bad))
    }

    #[tokio::test]
    async fn changes_of_a_few_seconds_are_one_message() {
        let changes = [
            item("derp/r/a/tls", Err("the certificate\nhas expired")),
            item("derp/r/b/tls", Ok(())),
        ];
        let (requests, posts) = told(&changes, &["204 No Content"]).await;
        assert_eq!((requests.len(), posts), (1, (1, 0)));
        let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("POST /hook?x=secret HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.to_lowercase().contains("\r\nauthorization: bearer t"),
            "{head}"
        );
        let document: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            document["text"],
            "bad: derp/r/a/tls: the certificate\\nhas expired\ngood again: derp/r/b/tls"
        );
        let first = &document["changes"][0];
        assert_eq!(
            [
                &first["name"],
                &first["state"],
                &first["since"],
                &first["class"]
            ],
            ["derp/r/a/tls", "bad", "2026-11-23T09:14:22Z", "derp_map"]
        );
    }

    #[tokio::test]
    async fn what_does_not_arrive_is_sent_again_and_what_is_refused_is_not() {
        let changes = [item("derp/r/a/tls", Err("no answer"))];
        let (requests, posts) = told(&changes, &["503 Busy", "200 OK"]).await;
        assert_eq!((requests.len(), posts), (2, (1, 0)));
        let (requests, posts) = told(&changes, &["403 Forbidden"]).await;
        assert_eq!((requests.len(), posts), (1, (0, 1)));
    }

    #[test]
    fn what_servers_say_is_no_markup_for_chat_servers() {
        let why = "<https://evil.test|click here> & <!channel>";
        let (outcome, change) = item("derp/r/a/tls", Err(why));
        let text = |now| {
            let change = Change { now, ..change };
            let outcome = outcome.clone();
            let document: Value =
                serde_json::from_slice(&message(&[Item { outcome, change }])).unwrap();
            assert_eq!(document["changes"][0]["error"], why);
            assert_eq!(document["changes"][0]["state"], now.as_str());
            document["text"].as_str().unwrap().to_owned()
        };
        let escaped = "&lt;https://evil.test|click here&gt; &amp; &lt;!channel&gt;";
        assert_eq!(text(Now::Bad), format!("bad: derp/r/a/tls: {escaped}"));
        assert_eq!(text(Now::Gone), format!("gone: derp/r/a/tls: {escaped}"));
        assert_eq!(text(Now::Good), "good again: derp/r/a/tls");
    }

    #[test]
    fn a_text_has_so_many_lines() {
        let (outcome, change) = item("derp/r/a/tls", Ok(()));
        let items = vec![Item { outcome, change }; 30];
        let document: Value = serde_json::from_slice(&message(&items)).unwrap();
        let text = document["text"].as_str().unwrap();
        assert_eq!(text.lines().count(), MOST_LINES + 1);
        assert_eq!(text.lines().last(), Some("and 10 more"));
        assert_eq!(document["changes"].as_array().map(Vec::len), Some(30));
    }
}
