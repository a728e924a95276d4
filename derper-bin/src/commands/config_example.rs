//! `derper config example`: a configuration file with every key, what it does and its default,
//! made from the table of settings, so that it cannot be out of date.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::settings::{ALL, Kind, Setting};

/// Columns of the comments.
const WIDTH: usize = 96;

/// The file. Every key is a comment, so that the file changes nothing until a line is uncommented.
pub(super) fn example() -> String {
    let mut text = String::from(
        "# Configuration of derper. Every key is shown with its default; uncomment what you change.\n\
         # A flag counts before a variable, a variable before this file. Check it with:\n\
         #   derper check-config --config FILE\n",
    );
    let in_file = ALL.iter().filter(|setting| setting.in_file);
    let mut sections: BTreeMap<&str, Vec<&Setting>> = BTreeMap::new();
    for setting in in_file {
        let section = setting
            .key
            .rsplit_once('.')
            .map_or("", |(section, _)| section);
        sections.entry(section).or_default().push(setting);
    }
    for (section, settings) in sections {
        if !section.is_empty() {
            write!(text, "\n[{section}]\n").expect("writing to a string cannot fail");
        }
        for setting in settings {
            text.push('\n');
            comment(&mut text, setting.help);
            let key = setting.key.rsplit('.').next().unwrap_or(setting.key);
            writeln!(text, "#{key} = {}", in_toml(setting))
                .expect("writing to a string cannot fail");
        }
    }
    text
}

fn comment(text: &mut String, help: &str) {
    let mut line = String::from("#");
    for word in help.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// The default as TOML has it.
fn in_toml(setting: &Setting) -> String {
    let default = setting.default;
    match setting.kind {
        Kind::List if default.is_empty() => "[]".to_owned(),
        Kind::List => {
            let items: Vec<_> = default.split(',').collect();
            format!("{items:?}")
        }
        Kind::Switch | Kind::Int => default.to_owned(),
        Kind::Float if default == "+Inf" => "inf".to_owned(),
        Kind::Float => default.to_owned(),
        Kind::Size if default.bytes().all(|byte| byte.is_ascii_digit()) && !default.is_empty() => {
            default.to_owned()
        }
        Kind::Size | Kind::Duration | Kind::Text | Kind::Path => format!("{default:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::file;

    #[test]
    fn the_example_holds_every_key_and_means_what_the_defaults_mean() {
        let example = example();
        let uncommented: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                // Prose has a space after the mark.
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let read = file::parse(Path::new("example.toml"), &uncommented);
        assert_eq!(read.problems, []);
        for setting in ALL.iter().filter(|setting| setting.in_file) {
            let given = read.values.get(setting.key);
            let given = given.map(|given| given.text.as_str());
            // TOML has another word for it.
            let default = setting.default.replace("+Inf", "inf");
            assert_eq!(given, Some(default.as_str()), "{}", setting.key);
        }
        let untouched = file::parse(Path::new("example.toml"), &example);
        assert!(untouched.problems.is_empty() && untouched.values.is_empty());
    }
}
