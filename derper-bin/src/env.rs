//! Environment variables: our names, and those that container images of the reference use.
//!
//! An empty value counts as not set, as in those images. A name without the prefix `DERP_` and
//! the like is never read: Docker itself sets `HOSTNAME`.

use std::collections::BTreeMap;

use derp_ops::goflag;
use derp_ops::suggest::nearest;

use crate::problem::Problem;
use crate::settings::{ALL, Env, HTTP_PORT, Setting};
use crate::sources::{Given, Origin, Values};

/// The environment of the process.
pub type Vars = BTreeMap<String, String>;

/// A switch of another image's for the port 80 listener, beside the variable for its port.
const ENABLE_HTTP: &str = "DERP_ENABLE_HTTP";
/// More words for the command line.
const EXTRA_ARGS: [&str; 2] = ["DERP_EXTRA_ARGS", "DERPER_EXTRA_ARGS"];

/// Variables of the reference that do nothing here, and what to do instead.
const UNSUPPORTED: [(&str, &str); 3] = [
    (
        "DERP_DEBUG_LOGS",
        "frames are not logged; --log-level info,derp_server=debug tells of every client",
    ),
    (
        "DERP_PROBER_DEBUG_LOGS",
        "frames are not logged; --log-level info,derp_server=debug tells of every client",
    ),
    (
        "TS_DEBUG_VERBOSE_DROPS",
        "the metric derp_packets_dropped counts drops by their reason",
    ),
];

/// What a look at the environment found.
#[derive(Debug, Default)]
pub struct FromEnv {
    /// The values.
    pub values: Values,
    /// Variables that contradict each other.
    pub problems: Vec<Problem>,
    /// Variables that look mistyped.
    pub warnings: Vec<String>,
}

/// Reads all settings that have variables.
#[must_use]
pub fn read(vars: &Vars) -> FromEnv {
    let mut found = FromEnv::default();
    for setting in ALL {
        let Some(env) = setting.env else { continue };
        match one(vars, &env) {
            Ok(Some(given)) => {
                found.values.insert(setting.key, given);
            }
            Ok(None) => {}
            Err(problem) => found.problems.push(problem),
        }
    }
    if let Some(enabled) = set(vars, ENABLE_HTTP) {
        read_enable_http(enabled, &mut found);
    }
    found.warnings = vars.keys().filter_map(|name| mistyped(name)).collect();
    let links = vars
        .iter()
        .filter(|(name, value)| is_service_link(name, value));
    found.warnings.extend(
        links
            .filter(|(name, _)| is_ours(name))
            .map(|(name, value)| {
                format!(
                    "the variable {name} is {value:?}, which Kubernetes set for a Service, and does \
                     nothing; set enableServiceLinks: false in the pod's spec"
                )
            }),
    );
    let unsupported = UNSUPPORTED
        .iter()
        .filter(|(name, _)| set(vars, name).is_some());
    found
        .warnings
        .extend(unsupported.map(|(name, what)| format!("{name} does nothing here: {what}")));
    found
}

/// The words that the environment adds at the end of the command line.
///
/// # Errors
/// Both variables are set, and differ.
pub fn extra_args(vars: &Vars) -> Result<Vec<String>, Problem> {
    let env = Env {
        name: EXTRA_ARGS[0],
        aliases: &[],
    };
    let other = Env {
        name: EXTRA_ARGS[1],
        aliases: &[],
    };
    let given = match (one(vars, &env)?, one(vars, &other)?) {
        (Some(a), Some(b)) if a.text != b.text => return Err(contradiction(&a, &b)),
        (a, b) => a.or(b),
    };
    let words = given.iter().flat_map(|given| given.text.split_whitespace());
    Ok(words.map(str::to_owned).collect())
}

/// All variables that may hold secrets of the relay's own, by any of their names.
pub fn secrets() -> impl Iterator<Item = &'static str> {
    let settings = ALL.iter().filter(|setting| setting.secret);
    let names = settings.filter_map(|setting| setting.env).flat_map(|env| {
        std::iter::once(env.name).chain(env.aliases.iter().map(|alias| alias.name))
    });
    names.chain(EXTRA_ARGS)
}

fn set<'v>(vars: &'v Vars, name: &str) -> Option<&'v str> {
    vars.get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty() && !is_service_link(name, value))
}

/// Whether a variable was set by Kubernetes for a Service: one called `derp-stun` gives every pod
/// of its namespace `DERP_STUN_PORT=udp://10.0.0.1:3478`.
fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("_PORT")
        && ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|scheme| value.starts_with(scheme))
}

/// What one setting's variables say.
fn one(vars: &Vars, env: &Env) -> Result<Option<Given>, Problem> {
    let given = |name, text| Given {
        text,
        origin: Origin::Env(name),
    };
    let mut found = set(vars, env.name).map(|value| given(env.name, value.to_owned()));
    for alias in env.aliases {
        let Some(value) = set(vars, alias.name) else {
            continue;
        };
        let also = given(alias.name, (alias.read)(value));
        match &found {
            Some(first) if first.text != also.text => return Err(contradiction(first, &also)),
            Some(_) => {}
            None => found = Some(also),
        }
    }
    Ok(found)
}

/// Which two they are; what they say may be a secret.
fn contradiction(a: &Given, b: &Given) -> Problem {
    Problem::new(format!(
        "{} and {} mean the same setting and differ; remove one of them",
        a.origin, b.origin
    ))
}

/// The switch off beats the port: images that have both set a port in any case.
fn read_enable_http(enabled: &str, found: &mut FromEnv) {
    let given = |text: &str| Given {
        text: text.to_owned(),
        origin: Origin::Env(ENABLE_HTTP),
    };
    match goflag::parse_bool(enabled) {
        Some(true) => {}
        Some(false) => {
            found.values.insert(HTTP_PORT.key, given("-1"));
        }
        None => found.problems.push(Problem::in_value(
            &HTTP_PORT,
            &given(enabled),
            "write true or false",
        )),
    }
}

/// A warning where a variable has our prefix and is nearly one of ours. Others with the prefix are
/// left alone: Kubernetes sets `DERP_SERVICE_HOST` and more for a service called `derp`.
fn mistyped(name: &str) -> Option<String> {
    let has_prefix = name.starts_with("DERP_") || name.starts_with("DERPER_");
    let is_known = is_ours(name)
        || UNSUPPORTED
            .iter()
            .any(|(unsupported, _)| *unsupported == name);
    if !has_prefix || is_known {
        return None;
    }
    // Without the prefix, which would make any two short names look alike.
    let tail = |name: &'static str| name.split_once('_').map_or(name, |(_, tail)| tail);
    let (_, given) = name.split_once('_')?;
    let near = nearest(given, ours().map(tail))?;
    let known = ours().find(|known| tail(known) == near)?;
    Some(format!(
        "the variable {name} is not known and does nothing; did you mean {known}?"
    ))
}

/// The names of all variables that are read.
fn ours() -> impl Iterator<Item = &'static str> {
    let settings = ALL.iter().filter_map(|setting: &&Setting| setting.env);
    let names = settings.flat_map(|env| {
        std::iter::once(env.name).chain(env.aliases.iter().map(|alias| alias.name))
    });
    names.chain(EXTRA_ARGS).chain([ENABLE_HTTP])
}

fn is_ours(name: &str) -> bool {
    ours().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    fn vars(pairs: &[(&str, &str)]) -> Vars {
        pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// What `setting` gets, and from which variable; or the problems.
    fn value(
        setting: &Setting,
        pairs: &[(&str, &str)],
    ) -> Result<Option<(String, String)>, String> {
        let found = read(&vars(pairs));
        if !found.problems.is_empty() {
            return Err(found.problems.iter().map(ToString::to_string).collect());
        }
        let given = found.values.get(setting.key);
        Ok(given.map(|given| (given.origin.to_string(), given.text.clone())))
    }

    #[test]
    fn every_name_of_other_images_is_read() {
        use settings::*;
        let cases: &[(&Setting, &[(&str, &str)])] = &[
            (
                &HOSTNAME,
                &[
                    ("DERP_HOSTNAME", "x"),
                    ("DERP_DOMAIN", "x"),
                    ("DERP_HOST", "x"),
                    ("DERPER_DOMAIN", "x"),
                    ("TAILSCALE_DERP_HOSTNAME", "x"),
                ],
            ),
            (&ADDRESS, &[("DERP_ADDR", "x"), ("DERPER_ADDR", "x")]),
            (
                &HTTP_PORT,
                &[
                    ("DERP_HTTP_PORT", "x"),
                    ("DERP_PORT_HTTP", "x"),
                    ("DERPER_HTTP_PORT", "x"),
                ],
            ),
            (
                &STUN,
                &[
                    ("DERP_STUN", "x"),
                    ("DERP_STUN_ENABLE", "x"),
                    ("DERP_ENABLE_STUN", "x"),
                    ("DERPER_STUN", "x"),
                ],
            ),
            (
                &STUN_PORT,
                &[
                    ("DERP_STUN_PORT", "x"),
                    ("DERP_PORT_STUN", "x"),
                    ("DERPER_STUN_PORT", "x"),
                ],
            ),
            (&DERP, &[("DERP_DERP", "x"), ("DERP_DERP_ENABLE", "x")]),
            (
                &KEY_FILE,
                &[
                    ("DERP_CONFIG", "x"),
                    ("DERP_CONFIG_FILE", "x"),
                    ("DERP_CONFIG_PATH", "x"),
                ],
            ),
            (
                &TLS_MODE,
                &[
                    ("DERP_CERT_MODE", "x"),
                    ("DERP_CERTMODE", "x"),
                    ("TAILSCALE_DERP_CERTMODE", "x"),
                ],
            ),
            (
                &CERT_DIR,
                &[
                    ("DERP_CERT_DIR", "x"),
                    ("DERP_CERTDIR", "x"),
                    ("DERP_CERTS", "x"),
                    ("DERPER_CERT_DIR", "x"),
                ],
            ),
            (&ACME_EMAIL, &[("DERP_ACME_EMAIL", "x")]),
            (
                &ACME_EAB_KID,
                &[("DERP_ACME_EAB_KID", "x"), ("DERP_ACME_EABKID", "x")],
            ),
            (
                &ACME_EAB_KEY,
                &[("DERP_ACME_EAB_KEY", "x"), ("DERP_ACME_EABKEY", "x")],
            ),
            (&ACME_IP_CERTS, &[("DERP_ACME_IP_CERTS", "x")]),
            (&HOME, &[("DERP_HOME", "x"), ("DERP_HOME_PAGE", "x")]),
            (
                &VERIFY_CLIENTS,
                &[
                    ("DERP_VERIFY_CLIENTS", "x"),
                    ("DERPER_VERIFY_CLIENTS", "x"),
                    ("TAILSCALE_DERP_VERIFY_CLIENTS", "x"),
                ],
            ),
            (
                &VERIFY_CLIENT_URL,
                &[
                    ("DERP_VERIFY_CLIENT_URL", "x"),
                    ("DERPER_VERIFY_CLIENT_URL", "x"),
                ],
            ),
            (
                &VERIFY_CLIENT_URL_FAIL_OPEN,
                &[("DERP_VERIFY_CLIENT_URL_FAIL_OPEN", "x")],
            ),
            (&SOCKET, &[("DERP_SOCKET", "x")]),
            (&MESH_PSK_FILE, &[("DERP_MESH_PSK_FILE", "x")]),
            (&MESH_WITH, &[("DERP_MESH_WITH", "x")]),
            (&MESH_KEY_TEXT, &[("TAILSCALE_DERPER_MESH_KEY", "x")]),
            (&BOOTSTRAP_DNS, &[("DERP_BOOTSTRAP_DNS_NAMES", "x")]),
            (
                &UNPUBLISHED_DNS,
                &[("DERP_UNPUBLISHED_BOOTSTRAP_DNS_NAMES", "x")],
            ),
            (&ACCEPT_LIMIT, &[("DERP_ACCEPT_CONNECTION_LIMIT", "x")]),
            (&ACCEPT_BURST, &[("DERP_ACCEPT_CONNECTION_BURST", "x")]),
            (&TCP_KEEPALIVE, &[("DERP_TCP_KEEPALIVE_TIME", "x")]),
            (&TCP_USER_TIMEOUT, &[("DERP_TCP_USER_TIMEOUT", "x")]),
            (&TCP_WRITE_TIMEOUT, &[("DERP_TCP_WRITE_TIMEOUT", "x")]),
            (&RATE_CONFIG, &[("DERP_RATE_CONFIG", "x")]),
            (&CONFIG, &[("DERPER_CONFIG", "x")]),
        ];
        for (setting, names) in cases {
            for pair in *names {
                let expected = Some((pair.0.to_owned(), "x".to_owned()));
                assert_eq!(value(setting, &[*pair]), Ok(expected), "{}", pair.0);
            }
        }
    }

    #[test]
    fn some_aliases_speak_another_language() {
        use settings::*;
        let cases: &[(&Setting, &str, &str, &str)] = &[
            (&ADDRESS, "DERP_PORT_HTTPS", "8443", ":8443"),
            (
                &KEY_FILE,
                "DERP_STATE_DIR",
                "/app/state/",
                "/app/state/derper.key",
            ),
            (&TLS_MODE, "DERP_CERTMODE", "acme.sh", "manual"),
            (&VERIFY_CLIENTS, "DERP_AUTH_MODE", "verify-clients", "true"),
            (
                &VERIFY_CLIENTS,
                "DERP_AUTH_MODE",
                "verify-url",
                "verify-url",
            ),
            (&HTTP_PORT, "DERP_ENABLE_HTTP", "false", "-1"),
        ];
        for &(setting, name, given, meant) in cases {
            let expected = Some((name.to_owned(), meant.to_owned()));
            assert_eq!(value(setting, &[(name, given)]), Ok(expected), "{name}");
        }
        assert_eq!(value(&HTTP_PORT, &[("DERP_ENABLE_HTTP", "true")]), Ok(None));
        // Images that have the switch always set a port too.
        let off = [("DERP_ENABLE_HTTP", "0"), ("DERP_PORT_HTTP", "80")];
        let expected = Some(("DERP_ENABLE_HTTP".to_owned(), "-1".to_owned()));
        assert_eq!(value(&HTTP_PORT, &off), Ok(expected));
        assert_eq!(
            value(&HTTP_PORT, &[("DERP_ENABLE_HTTP", "no")]),
            Err("DERP_ENABLE_HTTP \"no\": write true or false".to_owned())
        );
    }

    #[test]
    fn empty_variables_and_unprefixed_names_count_for_nothing() {
        let unset = [
            ("DERP_HOSTNAME", ""),
            ("HOSTNAME", "4f1d3a"),
            ("STUN_PORT", "1"),
            ("CERT_MODE", "manual"),
        ];
        let found = read(&vars(&unset));
        assert_eq!(
            (found.values, found.problems, found.warnings),
            (Values::new(), vec![], vec![])
        );
        // An empty first name leaves the word to the others.
        let expected = Some(("DERP_DOMAIN".to_owned(), "x".to_owned()));
        assert_eq!(
            value(
                &settings::HOSTNAME,
                &[("DERP_HOSTNAME", ""), ("DERP_DOMAIN", "x")]
            ),
            Ok(expected)
        );
    }

    #[test]
    fn names_that_contradict_each_other_are_both_named() {
        assert_eq!(
            value(
                &settings::HOSTNAME,
                &[("DERP_HOSTNAME", "a"), ("DERP_DOMAIN", "b")]
            ),
            Err(
                "DERP_HOSTNAME and DERP_DOMAIN mean the same setting and differ; remove one of them"
                    .to_owned()
            )
        );
        assert_eq!(
            value(
                &settings::ADDRESS,
                &[("DERP_ADDR", ":443"), ("DERP_PORT_HTTPS", "8443")]
            ),
            Err(
                "DERP_ADDR and DERP_PORT_HTTPS mean the same setting and differ; remove one of them"
                    .to_owned()
            )
        );
        let secrets = [
            ("DERP_ACME_EAB_KEY", "hunter2"),
            ("DERP_ACME_EABKEY", "hunter22"),
        ];
        let told = value(&settings::ACME_EAB_KEY, &secrets).unwrap_err();
        assert!(!told.contains("hunter2"), "{told}");
        let agreeing = [("DERP_DOMAIN", "a"), ("DERP_HOST", "a")];
        let expected = Some(("DERP_DOMAIN".to_owned(), "a".to_owned()));
        assert_eq!(value(&settings::HOSTNAME, &agreeing), Ok(expected));
    }

    #[test]
    fn more_words_come_from_either_variable() {
        let words = |pairs: &[(&str, &str)]| extra_args(&vars(pairs)).map_err(|p| p.to_string());
        assert_eq!(words(&[]), Ok(vec![]));
        assert_eq!(
            words(&[("DERP_EXTRA_ARGS", " -stun=false  -a :1 ")]),
            Ok(vec![
                "-stun=false".to_owned(),
                "-a".to_owned(),
                ":1".to_owned()
            ])
        );
        assert_eq!(
            words(&[("DERPER_EXTRA_ARGS", "-dev")]),
            Ok(vec!["-dev".to_owned()])
        );
        assert_eq!(
            words(&[("DERP_EXTRA_ARGS", "-dev"), ("DERPER_EXTRA_ARGS", "-stun")]),
            Err(
                "DERP_EXTRA_ARGS and DERPER_EXTRA_ARGS mean the same setting and differ; remove \
                 one of them"
                    .to_owned()
            )
        );
    }

    #[test]
    fn secrets_are_known_by_all_their_names() {
        let names: Vec<_> = secrets().collect();
        assert_eq!(
            names,
            [
                "DERP_ACME_EAB_KEY",
                "DERP_ACME_EABKEY",
                "TAILSCALE_DERPER_MESH_KEY",
                "DERP_EXTRA_ARGS",
                "DERPER_EXTRA_ARGS",
            ]
        );
    }

    #[test]
    fn a_mistyped_variable_is_pointed_out_and_kubernetes_is_not() {
        let found = read(&vars(&[
            ("DERP_HOSTNMAE", "x"),
            ("DERP_SERVICE_HOST", "10.0.0.1"),
            ("DERP_PORT_443_TCP_ADDR", "10.0.0.1"),
            ("DERP_SERVICE_PORT", "443"),
            ("DERP_PORT", "tcp://10.0.0.1:443"),
            ("DERP_PORT_443_TCP", "tcp://10.0.0.1:443"),
        ]));
        assert_eq!(
            found.warnings,
            [
                "the variable DERP_HOSTNMAE is not known and does nothing; did you mean DERP_HOSTNAME?"
            ]
        );
    }

    #[test]
    fn a_port_that_kubernetes_sets_for_a_service_is_passed_over_and_told() {
        let cases = [
            (&HTTP_PORT, "DERP_HTTP_PORT", "tcp://10.0.0.1:80"),
            (&HTTP_PORT, "DERPER_HTTP_PORT", "tcp://10.0.0.1:80"),
            (
                &settings::STUN_PORT,
                "DERP_STUN_PORT",
                "udp://10.0.0.1:3478",
            ),
            (
                &settings::STUN_PORT,
                "DERPER_STUN_PORT",
                "sctp://[fd00::1]:9",
            ),
        ];
        for (setting, name, link) in cases {
            assert_eq!(value(setting, &[(name, link)]), Ok(None), "{name}");
            assert_eq!(
                read(&vars(&[(name, link)])).warnings,
                [format!(
                    "the variable {name} is {link:?}, which Kubernetes set for a Service, and does \
                     nothing; set enableServiceLinks: false in the pod's spec"
                )]
            );
        }
        // Another name of the same setting still counts.
        let both = [
            ("DERP_STUN_PORT", "udp://10.0.0.1:1"),
            ("DERP_PORT_STUN", "7"),
        ];
        let expected = Some(("DERP_PORT_STUN".to_owned(), "7".to_owned()));
        assert_eq!(value(&settings::STUN_PORT, &both), Ok(expected));
    }

    #[test]
    fn what_does_nothing_here_is_said() {
        let found = read(&vars(&[
            ("TS_DEBUG_VERBOSE_DROPS", "1"),
            ("DERP_DEBUG_LOGS", ""),
        ]));
        assert_eq!(
            found.warnings,
            [
                "TS_DEBUG_VERBOSE_DROPS does nothing here: the metric derp_packets_dropped counts \
                 drops by their reason"
            ]
        );
    }
}
