//! The list of cases. A case's number is its section's and its place in there, so new cases go to
//! the end of their section.

mod captive_portal;
mod certificate;
mod departures;
mod duplicates;
mod frames;
mod head;
mod hello;
mod info;
mod login;
mod mesh;
mod packets;
mod pages;
mod pings;
mod plain_port;
mod start;
mod stun;
mod tls;
mod watch;
mod websocket;
mod websocket_end;

use crate::case::Case;

/// Cases about one thing.
#[derive(Debug)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// In their order.
    pub cases: &'static [Case],
}

/// All sections, in their order.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "TLS handshakes",
        cases: hello::CASES,
    },
    Section {
        title: "TLS",
        cases: tls::CASES,
    },
    Section {
        title: "Certificates",
        cases: certificate::CASES,
    },
    Section {
        title: "Pages",
        cases: pages::CASES,
    },
    Section {
        title: "Captive portals",
        cases: captive_portal::CASES,
    },
    Section {
        title: "Plain port",
        cases: plain_port::CASES,
    },
    Section {
        title: "Requests",
        cases: head::CASES,
    },
    Section {
        title: "Starts",
        cases: start::CASES,
    },
    Section {
        title: "Login",
        cases: login::CASES,
    },
    Section {
        title: "Client information",
        cases: info::CASES,
    },
    Section {
        title: "Frames",
        cases: frames::CASES,
    },
    Section {
        title: "Packets",
        cases: packets::CASES,
    },
    Section {
        title: "Pings and keep-alives",
        cases: pings::CASES,
    },
    Section {
        title: "Duplicates",
        cases: duplicates::CASES,
    },
    Section {
        title: "Departures",
        cases: departures::CASES,
    },
    Section {
        title: "WebSocket",
        cases: websocket::CASES,
    },
    Section {
        title: "WebSocket ends",
        cases: websocket_end::CASES,
    },
    Section {
        title: "Watching",
        cases: watch::CASES,
    },
    Section {
        title: "Mesh",
        cases: mesh::CASES,
    },
    Section {
        title: "STUN",
        cases: stun::CASES,
    },
];

/// A case and its number.
#[derive(Debug, Clone, Copy)]
pub struct Numbered {
    /// The section's number, from one.
    pub section: usize,
    /// The case's number in there, from one.
    pub place: usize,
    /// The case.
    pub case: &'static Case,
}

impl Numbered {
    /// The number as people write it: `3.2`.
    #[must_use]
    pub fn number(&self) -> String {
        format!("{}.{}", self.section, self.place)
    }

    /// Whether `text` means this case: its number, its section's, or words of its rule.
    #[must_use]
    pub fn is_meant_by(&self, text: &str) -> bool {
        let is_number = text.starts_with(|first: char| first.is_ascii_digit());
        if is_number && text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return text == self.number() || text == self.section.to_string();
        }
        let lower = text.to_lowercase();
        self.case.rule.to_lowercase().contains(&lower)
            || SECTIONS[self.section - 1].title.to_lowercase() == lower
    }
}

/// All cases, in their order.
pub fn all() -> impl Iterator<Item = Numbered> {
    SECTIONS.iter().zip(1..).flat_map(|(section, n)| {
        section
            .cases
            .iter()
            .zip(1..)
            .map(move |(case, place)| Numbered {
                section: n,
                place,
                case,
            })
    })
}
