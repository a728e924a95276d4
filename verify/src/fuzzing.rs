//! What verifiers answer, for the fuzz targets: whoever runs them may be broken into, or just
//! broken. Not part of the crate's promises.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, thread_local};

use derp_proto::NodePublic;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::headscale::{NodeRules, parse_nodes};
use crate::http::{Answer, Fault, Request, exchange};
use crate::tailscaled::status_has;
use crate::{Reading, Verdict, parse_answer};

/// An answer from anybody.
///
/// The first byte says how much of it comes at a time. The rest is first a whole HTTP answer and
/// then, if it is none, an answer's body.
pub fn verify_response(data: &[u8]) {
    let Some((&pace, bytes)) = data.split_first() else {
        return;
    };
    let whole = answer(bytes, usize::MAX);
    let in_parts = answer(bytes, usize::from(pace) + 1);
    // Of an answer that is refused, as much is shown as there was. And what comes behind an answer
    // may be seen or not, so that one of the two may be refused for it.
    let good = |answer: &Result<Answer, Fault>| match answer {
        Ok(answer) if answer.status == 200 => Some(answer.body.clone()),
        _ => None,
    };
    if let (Some(whole), Some(in_parts)) = (good(&whole), good(&in_parts)) {
        assert_eq!(whole, in_parts, "an answer does not depend on how it comes");
    }
    let body = match &in_parts {
        Ok(answer) => {
            assert!(answer.body.len() <= MAX_BODY, "bodies have a bound");
            &answer.body
        }
        Err(_) => bytes,
    };
    admission(body);
    nodes(body);
    status(body);
}

/// A strict answer says exactly what any JSON reader reads.
fn admission(body: &[u8]) {
    let strict = parse_answer(body, Reading::Strict);
    let _lenient = parse_answer(body, Reading::Lenient);
    let Ok(Verdict { allow, .. }) = strict else {
        return;
    };
    // Values nested beyond its limit are all that the other reader refuses.
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        assert_eq!(value.get("Allow"), Some(&Value::Bool(allow)));
    }
}

/// Rules only take away, and no key is admitted that nobody can hold.
fn nodes(body: &[u8]) {
    let Ok(all) = parse_nodes(body, &NodeRules::default()) else {
        return;
    };
    let mut rules = NodeRules::default();
    rules.tags.insert("tag:a".to_owned());
    rules.refuse_expired = true;
    if let Ok(some) = parse_nodes(body, &rules) {
        assert!(some.keys().all(|key| all.contains_key(key)));
    }
    assert!(all.keys().all(|key| key.check().is_ok()));
    let nobody = NodePublic::from_bytes([0; 32]);
    assert!(!all.contains_key(&nobody));
}

fn status(body: &[u8]) {
    let nobody = NodePublic::from_bytes([0; 32]);
    assert_ne!(status_has(body, &nobody), Some(true));
}

fn answer(bytes: &[u8], pace: usize) -> Result<Answer, Fault> {
    thread_local! {
        static RUNTIME: RefCell<Runtime> = RefCell::new(
            Builder::new_current_thread().enable_time().build().expect("a runtime without I/O"),
        );
    }
    let request = Request {
        method: "GET",
        target: "/",
        host: "a.example",
        lines: &[],
        body: None,
        max_body: MAX_BODY,
    };
    let mut script = Script {
        rest: bytes.to_vec(),
        pace,
    };
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            exchange(
                &mut script,
                request,
                Instant::now() + Duration::from_secs(3600),
            )
            .await
        })
    })
}

/// Takes everything, and says what it was told, so much at a time.
struct Script {
    rest: Vec<u8>,
    pace: usize,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.rest.len().min(self.pace).min(buf.remaining());
        let now: Vec<u8> = self.rest.drain(..len).collect();
        buf.put_slice(&now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The longest body in bytes.
const MAX_BODY: usize = 4 << 10;
