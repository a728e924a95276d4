//! The days of all probes in a file, so that a restart does not forget them. Written as a whole
//! beside the old one, which it then replaces; a file that cannot be read is put aside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use thiserror::Error;

use super::history::{History, PIECE, Piece};

/// The form of the file.
const VERSION: u32 = 1;
/// The longest file that is read; ten thousand probes with a whole day each need half of it.
const LONGEST: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    piece_seconds: u64,
    probes: BTreeMap<String, Vec<Row>>,
}

/// Which piece, good runs, bad runs, mean, worst.
type Row = (u32, u16, u16, f32, f32);

/// A file that is none of ours, or cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The system refuses.
    #[error("cannot read the history in {0}")]
    Io(PathBuf, #[source] io::Error),
    /// It has been put aside, so that nothing is lost.
    #[error("{path} is no history of this program; it was moved to {aside}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Reads the file. Where there is none, nothing is known, nor is what is said of times to come.
///
/// # Errors
/// [`HistoryError`].
pub fn read(path: &Path, now: SystemTime) -> Result<BTreeMap<String, History>, HistoryError> {
    let failed = |err| HistoryError::Io(path.to_owned(), err);
    let file = match File::open(path) {
        Ok(file) => BufReader::new(file.take(LONGEST)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(err) => return Err(failed(err)),
    };
    let document: Document = match serde_json::from_reader(file) {
        Ok(document) => document,
        Err(err) if err.is_io() => return Err(failed(err.into())),
        Err(source) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".bad");
            fs::rename(path, &aside).map_err(failed)?;
            let (path, aside) = (path.to_owned(), aside.into());
            return Err(HistoryError::Form {
                path,
                aside,
                source,
            });
        }
    };
    if (document.version, document.piece_seconds) != (VERSION, PIECE.as_secs()) {
        // Another version's; its pieces cannot be added to.
        return Ok(BTreeMap::new());
    }
    let of = |(at, good, bad, mean, worst): Row| Piece {
        at,
        good,
        bad,
        mean,
        worst,
    };
    let probes = document.probes.into_iter();
    Ok(probes
        .map(|(name, rows)| (name, History::of(rows.into_iter().map(of), now)))
        .collect())
}

/// Writes the file.
///
/// # Errors
/// The system's; the old file is as it was then.
pub fn write(path: &Path, histories: &BTreeMap<String, History>) -> io::Result<()> {
    let row = |piece: &Piece| (piece.at, piece.good, piece.bad, piece.mean, piece.worst);
    let rows = |history: &History| history.pieces().map(row).collect();
    let probes = histories.iter();
    let document = Document {
        version: VERSION,
        piece_seconds: PIECE.as_secs(),
        probes: probes
            .map(|(name, history)| (name.clone(), rows(history)))
            .collect(),
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = NamedTempFile::new_in(folder)?;
    let mut out = BufWriter::new(new.as_file_mut());
    serde_json::to_writer(&mut out, &document)?;
    out.flush()?;
    drop(out);
    new.as_file().sync_all()?;
    new.persist(path).map(drop).map_err(|err| err.error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::history::Point;
    use super::*;

    /// When everything in these files is past, and not yet a day ago.
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        assert_eq!(read(&path, NOW).unwrap(), BTreeMap::new());
        let mut history = History::default();
        for minute in 0..30 {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(minute * 60);
            history.add(now, Point::Seconds(0.1));
        }
        let histories = BTreeMap::from([("derp/r/n/tls".to_owned(), history)]);
        write(&path, &histories).unwrap();
        assert_eq!(read(&path, NOW).unwrap(), histories);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_history_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        fs::write(&path, "{\"version\":1,").unwrap();
        let err = read(&path, NOW).unwrap_err().to_string();
        assert!(err.contains("is no history of this program"), "{err}");
        assert_eq!(read(&path, NOW).unwrap(), BTreeMap::new());
        let aside = fs::read_to_string(folder.path().join("history.json.bad")).unwrap();
        assert_eq!(aside, "{\"version\":1,");
    }

    #[test]
    fn what_another_version_wrote_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        let text = "{\"version\":2,\"pieceSeconds\":300,\"probes\":{\"a\":[[1,1,0,0.5,0.5]]}}";
        fs::write(&path, text).unwrap();
        assert_eq!(read(&path, NOW).unwrap(), BTreeMap::new());
    }
}
