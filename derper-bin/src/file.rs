//! The configuration file: TOML, strict. A key that is not known is a mistake, for what an
//! operator wrote and what the relay does must not differ silently.

use std::ops::Range;
use std::path::Path;

use derp_ops::suggest::nearest;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::problem::Problem;
use crate::settings::{ALL, Kind, Setting};
use crate::sources::{Given, Origin, Values};

/// What the file holds, or all that is wrong with it.
#[derive(Debug, Default)]
pub struct FromFile {
    /// The values.
    pub values: Values,
    /// All mistakes, by line.
    pub problems: Vec<Problem>,
}

/// Reads the text of the file; `path` is for messages.
#[must_use]
pub fn parse(path: &Path, text: &str) -> FromFile {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        path,
        text,
        values: Values::new(),
        problems: Vec::new(),
    };
    for err in errors {
        let at = err.span().unwrap_or(0..0);
        reader.problem(at, format_args!("this is not TOML: {}", err.message()));
    }
    // What follows a syntax error is guesswork: its mistakes would mislead.
    if reader.problems.is_empty() {
        reader.table("", document.get_ref());
        reader.problems.sort_by_key(|(line, _)| *line);
    }
    let problems = reader
        .problems
        .into_iter()
        .map(|(_, problem)| problem)
        .collect();
    FromFile {
        values: reader.values,
        problems,
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    values: Values,
    problems: Vec<(usize, Problem)>,
}

impl Reader<'_> {
    fn line(&self, at: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..at.start.min(self.text.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    fn problem(&mut self, at: Range<usize>, what: impl std::fmt::Display) {
        let line = self.line(&at);
        let problem = Problem::new(format!("{}:{line}: {what}", self.path.display()));
        self.problems.push((line, problem));
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = match prefix {
                "" => name.get_ref().to_string(),
                prefix => format!("{prefix}.{}", name.get_ref()),
            };
            let setting = Setting::by_key(&key).filter(|setting| setting.in_file);
            if let (Some(_), DeValue::Array(items)) = (setting, value.get_ref())
                && let Some(what) = bad_item(items)
            {
                self.problem(value.span(), format_args!("{key}: {what}"));
                continue;
            }
            match (setting, value.get_ref()) {
                (Some(setting), value_ref) => match to_text(setting.kind, value_ref) {
                    Some(text) => {
                        let line = self.line(&name.span());
                        let path = self.path.to_owned();
                        let origin = Origin::File {
                            path,
                            line,
                            key: setting.key,
                        };
                        self.values.insert(setting.key, Given { text, origin });
                    }
                    None => self.problem(
                        value.span(),
                        format_args!("{key}: {} is wanted here", setting.kind.in_toml()),
                    ),
                },
                (None, DeValue::Table(inner)) if is_section(&key) => self.table(&key, inner),
                (None, _) => self.unknown(&key, name),
            }
        }
    }

    fn unknown(&mut self, key: &str, name: &Spanned<impl Sized>) {
        if is_section(key) {
            let what = format_args!("{key} is a section: write [{key}] and its keys below it");
            return self.problem(name.span(), what);
        }
        // A flag's or variable's name is the most likely thing to be tried.
        let by_flag = |setting: &&&Setting| setting.flag.is_some_and(|flag| flag.name == key);
        let flag = ALL.iter().find(by_flag);
        if let Some(setting) = flag.filter(|setting| !setting.in_file) {
            let what = format_args!(
                "{key} cannot be set in this file; use the flag {}",
                setting.name()
            );
            return self.problem(name.span(), what);
        }
        let suggestion = flag.map_or_else(|| meant(key), |setting| Some(setting.key));
        match suggestion {
            Some(known) => self.problem(
                name.span(),
                format_args!("{key} is not a key of this file; did you mean {known}?"),
            ),
            None => self.problem(name.span(), format_args!("{key} is not a key of this file")),
        }
    }
}

/// The key that is most likely meant: a near name in the same section, the same name in another,
/// or a near key as a whole.
fn meant(key: &str) -> Option<&'static str> {
    let keys = || {
        ALL.iter()
            .filter(|setting| setting.in_file)
            .map(|setting| setting.key)
    };
    let split = |key: &'static str| key.rsplit_once('.').unwrap_or(("", key));
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let beside = keys().map(split).filter(|(other, _)| *other == section);
    if let Some(near) = nearest(name, beside.map(|(_, name)| name)) {
        return keys().find(|key| split(key) == (section, near));
    }
    keys()
        .find(|key| split(key).1 == name)
        .or_else(|| nearest(key, keys().chain(sections())))
}

/// The tables that keys are in.
fn sections() -> impl Iterator<Item = &'static str> {
    let in_file = ALL.iter().filter(|setting| setting.in_file);
    in_file
        .filter_map(|setting| setting.key.rsplit_once('.'))
        .map(|(section, _)| section)
}

fn is_section(key: &str) -> bool {
    sections().any(|section| section == key)
}

/// Why a list cannot be written with commas, as it is for the flag.
fn bad_item(items: &DeArray<'_>) -> Option<&'static str> {
    let mut texts = items.iter().filter_map(|item| item.get_ref().as_str());
    texts.find_map(|text| match text {
        _ if text.trim().is_empty() => Some("an item of this list is empty; remove it"),
        _ if text.contains(',') => {
            Some("an item of this list has a comma in it, which would divide it; do without")
        }
        _ => None,
    })
}

/// The value in the spelling of a flag, or `None` where it is of another kind.
fn to_text(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match (kind, value) {
        (Kind::Switch, DeValue::Boolean(value)) => Some(value.to_string()),
        (Kind::Int | Kind::Size | Kind::Float, DeValue::Integer(value)) => {
            i64::from_str_radix(value.as_str(), value.radix())
                .ok()
                .map(|value| value.to_string())
        }
        (Kind::Float, DeValue::Float(value)) => Some(value.as_str().to_owned()),
        (Kind::Duration | Kind::Size | Kind::Text | Kind::Path, DeValue::String(value)) => {
            Some(value.to_string())
        }
        (Kind::List, DeValue::Array(items)) => {
            let items: Option<Vec<&str>> =
                items.iter().map(|item| item.get_ref().as_str()).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and values, or the problems.
    fn read(text: &str) -> Result<Vec<(&'static str, String, String)>, Vec<String>> {
        let found = parse(Path::new("derper.toml"), text);
        if !found.problems.is_empty() {
            return Err(found.problems.iter().map(ToString::to_string).collect());
        }
        let values = found.values.into_iter();
        Ok(values
            .map(|(key, given)| (key, given.text, given.origin.to_string()))
            .collect())
    }

    #[test]
    fn values_come_with_their_lines() {
        let text = "hostname = \"derp.example.com\"\n\n[listen]\naddress = \":8443\"\n\
                    http_port = -1\n[stun]\nenabled = false\n\
                    [limits]\naccepts_per_second = 12.5\nclient_bytes_per_second = \"1MiB\"\n\
                    client_burst_bytes = 0x1_0000\n\
                    [bootstrap_dns]\nnames = [\n  \"a.example.com\",\n  \"b.example.com\",\n]\n";
        let value = |key: &'static str, text: &str, line: usize| {
            (key, text.to_owned(), format!("derper.toml:{line}: {key}"))
        };
        assert_eq!(
            read(text),
            Ok(vec![
                value("bootstrap_dns.names", "a.example.com,b.example.com", 13),
                value("hostname", "derp.example.com", 1),
                value("limits.accepts_per_second", "12.5", 9),
                value("limits.client_burst_bytes", "65536", 11),
                value("limits.client_bytes_per_second", "1MiB", 10),
                value("listen.address", ":8443", 4),
                value("listen.http_port", "-1", 5),
                value("stun.enabled", "false", 7),
            ])
        );
        assert_eq!(
            read("listen = { http_port = 80 }\ntls.mode = \"off\"")
                .unwrap()
                .len(),
            2
        );
        assert_eq!(read(""), Ok(vec![]));
    }

    #[test]
    fn unknown_keys_are_told_apart_and_all_at_once() {
        let text = "hostnmae = \"x\"\n[listen]\nadress = \":1\"\nport = 5\n[tsl]\nmode = \"off\"\n\
                    [http]\nverify-clients = true\nmode = \"x\"\n";
        assert_eq!(
            read(text),
            Err(vec![
            "derper.toml:1: hostnmae is not a key of this file; did you mean hostname?".to_owned(),
            "derper.toml:3: listen.adress is not a key of this file; did you mean listen.address?"
                .to_owned(),
            "derper.toml:4: listen.port is not a key of this file; did you mean stun.port?"
                .to_owned(),
            "derper.toml:5: tsl is not a key of this file; did you mean tls?".to_owned(),
            "derper.toml:8: http.verify-clients is not a key of this file".to_owned(),
            "derper.toml:9: http.mode is not a key of this file; did you mean tls.mode?".to_owned(),
        ])
        );
    }

    #[test]
    fn the_name_of_a_flag_leads_to_its_key() {
        assert_eq!(
            read("stun-port = 3479\nverify-clients = true\nsecrets = 1"),
            Err(vec![
                "derper.toml:1: stun-port is not a key of this file; did you mean stun.port?"
                    .to_owned(),
                "derper.toml:2: verify-clients cannot be set in this file; use the flag \
                 -verify-clients"
                    .to_owned(),
                "derper.toml:3: secrets is not a key of this file".to_owned(),
            ])
        );
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        let cases = [
            (
                "[listen]\nhttp_port = \"80\"",
                "listen.http_port: a whole number is wanted here",
            ),
            (
                "[listen]\nhttp_port = 80.0",
                "listen.http_port: a whole number is wanted here",
            ),
            (
                "[listen]\nhttp_port = 99999999999999999999",
                "listen.http_port: a whole number is wanted here",
            ),
            (
                "[stun]\nenabled = 1",
                "stun.enabled: true or false is wanted here",
            ),
            (
                "[tcp]\nkeepalive = 600",
                "tcp.keepalive: a duration in quotes, such as \"15s\" is wanted here",
            ),
            (
                "[tls]\nmode = true",
                "tls.mode: text in quotes is wanted here",
            ),
            (
                "[bootstrap_dns]\nnames = \"a\"",
                "bootstrap_dns.names: a list of texts, such as [\"a\", \"b\"] is wanted here",
            ),
            (
                "[bootstrap_dns]\nnames = [1]",
                "bootstrap_dns.names: a list of texts, such as [\"a\", \"b\"] is wanted here",
            ),
            (
                "[verify]\nurl = [\"http://a\", \" \"]",
                "verify.url: an item of this list is empty; remove it",
            ),
            (
                "[tls]\nhook = [\"sh\", \"-c\", \"x a,b\"]",
                "tls.hook: an item of this list has a comma in it, which would divide it; do \
                 without",
            ),
            (
                "[hostname]\nx = 1",
                "hostname: text in quotes is wanted here",
            ),
            (
                "\nlisten = 1",
                "listen is a section: write [listen] and its keys below it",
            ),
        ];
        for (text, what) in cases {
            let lines = usize::from(!text.starts_with("[hostname]"));
            assert_eq!(
                read(text),
                Err(vec![format!("derper.toml:{}: {what}", 1 + lines)]),
                "{text}"
            );
        }
    }

    #[test]
    fn text_that_is_not_toml_is_refused_by_its_line() {
        for (text, line) in [
            ("a = = b", 1),
            ("hostname = \"x\n", 1),
            ("\n[listen", 2),
            ("a = 1\na = 2", 2),
        ] {
            let problems = read(text).unwrap_err();
            let start = format!("derper.toml:{line}: this is not TOML: ");
            assert!(problems[0].starts_with(&start), "{text}: {problems:?}");
        }
    }
}
