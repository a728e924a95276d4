//! `derper config print`: every setting, what counts for it, and where that was given.

use std::fmt::Write;

use crate::settings::{
    ALL, Setting, VERIFY_CLIENT_URL, VERIFY_HEADSCALE, VERIFY_PROXY, VERIFY_URL,
};
use crate::sources::{Origin, Sources};

/// What stands in the place of a secret.
const REDACTED: &str = "(not shown)";

/// Settings whose URLs may hold passwords and tokens.
const URLS: [&Setting; 4] = [
    &VERIFY_CLIENT_URL,
    &VERIFY_HEADSCALE,
    &VERIFY_PROXY,
    &VERIFY_URL,
];

/// A line for each setting; then `problems`, as comments, if there are any.
pub(super) fn print(sources: &Sources, problems: &[String]) -> String {
    let rows: Vec<_> = ALL.iter().map(|setting| row(setting, sources)).collect();
    let width = |cell: fn(&(String, String, String)) -> &str| {
        let widths = rows.iter().map(|row| cell(row).chars().count());
        widths.max().unwrap_or(0)
    };
    let (name, value) = (width(|row| &row.0), width(|row| &row.1).min(40));
    let mut text = String::new();
    for row in &rows {
        writeln!(text, "{:name$}  {:value$}  {}", row.0, row.1, row.2)
            .expect("writing to a string cannot fail");
    }
    for problem in problems {
        writeln!(text, "# mistake: {problem}").expect("writing to a string cannot fail");
    }
    text
}

fn row(setting: &Setting, sources: &Sources) -> (String, String, String) {
    let given = sources.get(setting).filter(|given| !given.text.is_empty());
    let name = if setting.in_file {
        setting.key.to_owned()
    } else {
        setting.name()
    };
    let shown = |text: &str| match (setting.secret, text) {
        (_, "") => "-".to_owned(),
        (true, _) => REDACTED.to_owned(),
        (false, text) if URLS.iter().any(|one| one.key == setting.key) => {
            let urls: Vec<_> = text.split(',').map(without_secrets).collect();
            urls.join(",").escape_debug().to_string()
        }
        (false, text) => text.escape_debug().to_string(),
    };
    match given {
        Some(given) => (name, shown(&given.text), told(&given.origin)),
        None => (name, shown(setting.default), "default".to_owned()),
    }
}

/// A URL without what may be secret in it: the user, the query and the fragment.
fn without_secrets(url: &str) -> String {
    let (url, more) = match url.find(['?', '#']) {
        Some(at) => (&url[..at], &url[at..=at]),
        None => (url, ""),
    };
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + 3),
        None => ("", url),
    };
    let (user, rest) = match rest.rfind('@') {
        Some(at) => ("…", &rest[at..]),
        None => ("", rest),
    };
    let more = if more.is_empty() { "" } else { "?…" };
    format!("{scheme}{user}{rest}{more}")
}

fn told(origin: &Origin) -> String {
    match origin {
        Origin::Flag(_) => format!("flag {origin}"),
        Origin::Env(_) => format!("environment {origin}"),
        Origin::File { path, line, .. } => format!("file {}:{line}", path.display()),
        Origin::Preset(_) => format!("preset of {origin}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{ACME_EAB_KEY, HTTP_PORT};
    use crate::sources::Given;

    #[test]
    fn each_value_says_where_it_comes_from_and_secrets_are_left_out() {
        let mut sources = Sources::default();
        let given = |text: &str, origin| Given {
            text: text.to_owned(),
            origin,
        };
        let file = Origin::File {
            path: "/etc/derper.toml".into(),
            line: 3,
            key: HTTP_PORT.key,
        };
        sources.file_values.insert(HTTP_PORT.key, given("81", file));
        let variable = Origin::Env("DERP_ACME_EAB_KEY");
        sources
            .env
            .insert(ACME_EAB_KEY.key, given("hunter2", variable));
        for (setting, text) in [
            (
                &VERIFY_URL,
                "https://me:hunter2@a/v?token=hunter2,http://b/",
            ),
            (&VERIFY_PROXY, "http://hunter2:hunter2@[::1]:3128"),
            (&VERIFY_CLIENT_URL, "me:hunter2@c/v#hunter2"),
        ] {
            let flag = Origin::Flag(setting.flag.map_or("", |flag| flag.name));
            sources.env.insert(setting.key, given(text, flag));
        }
        let text = print(&sources, &["it is wrong".to_owned()]);
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let words = line.map(|line| line.split_whitespace().collect::<Vec<_>>());
            words.unwrap_or_default().join(" ")
        };
        assert_eq!(
            row("listen.http_port"),
            "listen.http_port 81 file /etc/derper.toml:3"
        );
        assert_eq!(
            row("-acme-eab-key"),
            "-acme-eab-key (not shown) environment DERP_ACME_EAB_KEY"
        );
        assert_eq!(row("stun.port"), "stun.port 3478 default");
        let shown = |name: &str| row(name).split(' ').nth(1).map(str::to_owned);
        for (name, url) in [
            ("verify.url", "https://…@a/v?…,http://b/"),
            ("verify.proxy", "http://…@[::1]:3128"),
            ("-verify-client-url ", "…@c/v?…"),
        ] {
            assert_eq!(shown(name).as_deref(), Some(url));
        }
        assert_eq!(row("verify.allowlist"), "verify.allowlist - default");
        assert!(text.ends_with("# mistake: it is wrong\n"));
        assert!(!text.contains("hunter2"));
    }
}
