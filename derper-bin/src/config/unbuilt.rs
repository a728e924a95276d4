//! What operators may ask of the reference and this version does not do. It does not start then:
//! a relay that ignores what it was told is worse than none.

use super::reader::Reader;
use crate::settings::{ACE, SECRETS_URL, Setting, UNPUBLISHED_DNS};

pub(super) fn check(reader: &mut Reader<'_>) {
    let ace = reader.switch(&ACE);
    let asked: [(&Setting, bool, &str); 3] = [
        (
            &SECRETS_URL,
            reader.given(&SECRETS_URL).is_some(),
            "this version cannot fetch secrets; put the mesh key into a file and name it with \
             -mesh-psk-file",
        ),
        (
            &ACE,
            ace,
            "this version is no CONNECT proxy; remove the flag",
        ),
        (
            &UNPUBLISHED_DNS,
            reader.given(&UNPUBLISHED_DNS).is_some(),
            "this version can only publish names; use -bootstrap-dns-names",
        ),
    ];
    for (setting, _, what) in asked.into_iter().filter(|(_, asked, _)| *asked) {
        let name = reader.name_of(setting);
        reader.problem(format!("{name}: {what}"));
    }
}
