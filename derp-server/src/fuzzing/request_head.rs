//! The first bytes of a connection, as the HTTP front reads them.

use derp_proto::http::is_valid_challenge;
use http::HeaderValue;

use crate::http::head::{HeadError, MAX_HEAD_LEN, MAX_HEADERS, Route, Upgrade, read_head};

/// A request, in reads of any size.
///
/// The first two bytes are the sizes of the reads, in turn, less one; the rest is the stream.
/// However the head comes, it is judged alike, and never by what is behind it. What passes for
/// an upgrade is one by a reading that knows nothing of the parser.
pub fn request_head(data: &[u8]) {
    let Some((&[one, other], wire)) = data.split_first_chunk() else {
        return;
    };
    let whole = read_head(wire);
    let sizes = [one, other].map(|size| usize::from(size) + 1);
    let (mut len, mut turn) = (0, 0);
    while len < wire.len() {
        len = wire.len().min(len + sizes[turn]);
        turn = 1 - turn;
        let part = read_head(&wire[..len]);
        match &part {
            Ok(None) => {}
            Ok(Some(head)) => {
                assert!(head.len <= len, "a head is not longer than what has come");
                assert_eq!(part, whole, "a whole head is judged alike");
            }
            // What is wrong at first stays wrong, though more bytes may give another reason.
            Err(_) => assert!(whole.is_err(), "{part:?} became {whole:?}"),
        }
    }
    match whole {
        Ok(None) => assert!(wire.len() < MAX_HEAD_LEN),
        Ok(Some(head)) => check(&wire[..head.len], &head.route),
        Err(error) => check_refusal(error),
    }
}

fn check(head: &[u8], route: &Route) {
    assert!(head.len() <= MAX_HEAD_LEN && head.ends_with(b"\r\n\r\n"));
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let request = lines.next().expect("there is a first line");
    let fields: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    assert!(fields.len() <= MAX_HEADERS);
    assert!(!text.replace("\r\n", "").contains('\n'), "a bare line feed");
    let values = |name: &str| {
        let named = fields.iter().filter_map(|line| line.split_once(':'));
        let named = named.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named
            .map(|(_, value)| value.trim().to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    assert!(values("host").len() <= 1, "several hosts");
    assert!(values("content-length").is_empty() || values("transfer-encoding").is_empty());
    for challenge in fields.iter().filter_map(|line| line.split_once(": ")) {
        let challenge = challenge.1.as_bytes();
        if is_valid_challenge(challenge) {
            // The page repeats it in a header of its own, and in no other way than it came.
            let repeated = HeaderValue::from_bytes(challenge).expect("it fits a header");
            assert!(repeated.to_str().is_ok_and(|text| !text.contains(' ')));
        }
    }
    let Route::Upgrade(upgrade) = route else {
        return;
    };
    assert!(
        request.starts_with("GET ") && request.ends_with(" HTTP/1.1"),
        "{request}"
    );
    assert_eq!(values("host").len(), 1);
    assert!(values("transfer-encoding").is_empty());
    assert!(
        values("content-length")
            .iter()
            .all(|len| len.bytes().all(|byte| byte == b'0'))
    );
    let upgrades = values("upgrade");
    let [asked] = &upgrades[..] else {
        panic!("upgrades to {upgrades:?}");
    };
    match upgrade {
        Upgrade::Derp(_) => assert!(asked.contains("derp") || asked.contains("websocket")),
        Upgrade::WebSocket { .. } => {
            assert!(asked.contains("websocket"));
            assert_eq!(values("sec-websocket-key").len(), 1);
            assert_eq!(values("sec-websocket-version"), ["13"]);
        }
    }
}

fn check_refusal(error: HeadError) {
    assert!(error.status().is_client_error() || error.status().as_u16() == 505);
    let hint = error.hint();
    assert!(hint.is_none_or(|(_, value)| !value.is_empty()));
}
