//! What operators may ask of the reference and this version does not do. It does not start then:
//! a relay that ignores what it was told is worse than none.

use super::reader::Reader;
use crate::settings::SECRETS_URL;

pub(super) fn check(reader: &mut Reader<'_>) {
    if reader.given(&SECRETS_URL).is_some() {
        let name = reader.name_of(&SECRETS_URL);
        reader.problem(format!(
            "{name}: this version cannot fetch secrets; put the mesh key into a file and name it \
             with -mesh-psk-file"
        ));
    }
}
