//! Text as it may stand on a page.

use std::fmt::{self, Display, Write};

/// Text as it may stand in HTML, in an attribute too, whoever it is from. Controls become spaces.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let text = Escaped("<a href='x'>\"&\u{1b}\u{85}").to_string();
        assert_eq!(text, "&lt;a href=&#39;x&#39;&gt;&quot;&amp;  ");
    }
}
