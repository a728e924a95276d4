//! URLs of servers.

use derp_client::ServerUrl;

/// The URL of a server, as a user or a map names it.
///
/// The data is text. What is accepted is written so that it is read alike, and can stand in an
/// HTTP head.
pub fn server_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(url) = text.parse::<ServerUrl>() else {
        return;
    };
    let written = url.to_string();
    let stays_in_its_line = |c: char| c.is_ascii_graphic();
    assert!(written.chars().all(stays_in_its_line), "{written:?}");
    assert!(url.path().starts_with('/') && url.path().chars().all(stays_in_its_line));
    assert_eq!(written.parse(), Ok(url), "{written}");
}
