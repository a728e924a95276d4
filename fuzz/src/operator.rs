//! What an operator writes: command lines, variables, files. No stranger does, but who mistypes is
//! owed an answer.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use derp_ops::goflag::{Arity, FlagTable, GoDuration, Words, parse_bool, parse_float, parse_int};
use derp_ops::secret_file::OpenMode;
use derp_proto::{MeshKey, NodePrivate};
use derper::args::Args;
use derper::config::{Config, Surroundings};
use derper::env::Vars;
use derper::file;
use derper::gather::{Gathered, gather};

/// A configuration: words of the command line, lines of variables, and a file, with a line of
/// three dashes between them.
///
/// It is taken or refused, the same each time, and every mistake is told in a line.
pub fn derper_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut parts = text.splitn(3, "\n---\n");
    let mut part = || parts.next().unwrap_or_default();
    let (words, vars, toml) = (part(), part(), part());
    // What is on this machine is none of the target's business, nor is a file without an end.
    if text.contains("/dev") || text.contains("/proc") || text.contains("quickstart") {
        return;
    }
    let vars: Vars = vars
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .filter(|(name, _)| !name.contains("CONFIG"))
        .collect();
    let words = words.lines().filter(|word| !word.contains("config"));
    let words: Vec<_> = words.map(str::to_owned).collect();
    let build = || {
        let args = Args::parse(words.clone(), &vars).map_err(|exit| exit.text)?;
        let from_file = file::parse(Path::new("derper.toml"), toml);
        let mut gathered: Gathered = gather(args, &vars);
        gathered.sources.file_values = from_file.values;
        gathered.problems.extend(from_file.problems);
        let surroundings = Surroundings {
            vars: vars.clone(),
            is_root: false,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            memory_limit: Some(1 << 30),
            file_limit: None,
        };
        Config::build(gathered, &surroundings).map_err(|mistakes| {
            let mistakes: Vec<_> = mistakes.iter().collect();
            assert!(!mistakes.is_empty(), "a refusal without a reason");
            mistakes.join("\n")
        })
    };
    match (build(), build()) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one.warnings, other.warnings);
            assert_eq!(one.tunables, other.tunables);
        }
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{:?} became {:?}", one.err(), other.err()),
    }
}

/// Words, numbers and durations in Go's spelling.
///
/// The data is text: its lines are the words of a command line, and each of them a value. A
/// command line that was taken apart is taken apart in the same way again, and a duration is
/// written as it is read.
pub fn go_flags(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let table = FlagTable::new([
        ("a".to_owned(), Arity::Value),
        ("dev".to_owned(), Arity::Switch),
        ("h".to_owned(), Arity::Bare),
        ("hostname".to_owned(), Arity::Value),
    ]);
    let words = || text.lines().map(str::to_owned);
    for mode in [Words::End, Words::Aside] {
        let Ok(split) = table.split(words(), mode) else {
            continue;
        };
        assert!(split.options.iter().all(|option| option.starts_with('-')));
        let again = table.split(split.options.clone(), mode);
        let again = again.expect("what was understood is understood again");
        assert_eq!((again.options, again.words), (split.options, Vec::new()));
    }
    for line in text.lines() {
        if let Ok(duration) = line.parse::<GoDuration>() {
            assert_eq!(duration.to_string().parse(), Ok(duration), "{line}");
        }
        if let Some(number) = parse_int(line) {
            assert_eq!(parse_int(&number.to_string()), Some(number), "{line}");
        }
        assert!(parse_float(line).is_none_or(|number| !number.is_nan()));
        assert!(parse_bool(line).is_none() || line.len() <= 5);
    }
}

/// Files that name a key or a limit.
///
/// The first byte says which kind the rest is read as: the relay's key, the key of its mesh, or
/// the limits of clients. Each is taken or refused, and a refusal names the file and never what
/// is in it.
pub fn operator_files(data: &[u8]) {
    let Some((kind, content)) = data.split_first() else {
        return;
    };
    let file = Scratch::with(content);
    let path = &file.0;
    let refusal = match kind % 3 {
        0 => match derp_ops::keyfile::load(path, OpenMode::Refuse) {
            Ok(file) => {
                let key = file.expect("the file is there").key;
                assert!(key.public().check().is_ok(), "its public key can be used");
                let text = key.to_secret_text();
                let again = NodePrivate::from_secret_text(&text).expect("its own text");
                assert_eq!(again.public(), key.public());
                assert!(!format!("{key:?}").contains(&text[text.len() - 8..]));
                return;
            }
            Err(error) => error.to_string(),
        },
        1 => match derp_ops::meshkey::load(path, OpenMode::Refuse) {
            Ok(file) => {
                let text = file.key.to_secret_text();
                let again = MeshKey::from_secret_text(&text).expect("its own text");
                assert!(file.key.ct_eq(&again), "it is the same key");
                assert!(!format!("{again:?}").contains(&text[text.len() - 8..]));
                return;
            }
            Err(error) => error.to_string(),
        },
        _ => match derper::rate_config::load(path) {
            Ok(None) => return,
            Ok(Some(rate)) => {
                assert!(rate.bytes_per_second > 0);
                assert!(rate.burst_bytes >= derper::rate_config::MIN_BURST);
                return;
            }
            Err(error) => error.to_string(),
        },
    };
    assert!(refusal.contains(&path.display().to_string()), "{refusal}");
    assert!(!refusal.contains(char::is_control), "{refusal}");
}

/// A file that is there as long as this is.
struct Scratch(PathBuf);

impl Scratch {
    fn with(content: &[u8]) -> Self {
        let name = format!(
            "derpkit-fuzz-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path = std::env::temp_dir().join(name);
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let written = file
            .open(&path)
            .and_then(|mut file| file.write_all(content));
        written.expect("there is room for a small file");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody misses it where it has gone already.
        let _gone = fs::remove_file(&self.0);
    }
}
