//! Terminal output: lines that fit the width, in colours if the terminal has them.

use std::env;
use std::io::{self, IsTerminal, Stdout, Write};

use rustix::termios::tcgetwinsize;

/// The style of a part of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// A heading.
    Title,
    /// A good state.
    Good,
    /// A temporary state, or one that an operator caused.
    Passing,
    /// A bad state.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Title => "\x1b[1m",
            Style::Good => "\x1b[32m",
            Style::Passing => "\x1b[33m",
            Style::Bad => "\x1b[31m",
        }
    }
}

/// A line of styled parts. Control characters in them, such as line breaks, are shown as spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StyledLine(Vec<(String, Style)>);

impl StyledLine {
    pub(super) fn new(text: impl Into<String>, style: Style) -> Self {
        StyledLine::default().and(text, style)
    }

    pub(super) fn and(mut self, text: impl Into<String>, style: Style) -> Self {
        self.0.push((text.into(), style));
        self
    }

    /// The text without its styles.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(text, _)| text.as_str()).collect()
    }

    /// The line, truncated to `columns`.
    fn render(&self, columns: usize, colours: bool) -> String {
        let length: usize = self.0.iter().map(|(text, _)| text.chars().count()).sum();
        let is_cut = length > columns;
        let mut remaining = columns.saturating_sub(usize::from(is_cut));
        let mut shown = String::new();
        for (text, style) in &self.0 {
            // A host's error text could contain control sequences for the terminal.
            let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            let piece: String = printable.take(remaining).collect();
            remaining -= piece.chars().count();
            match colours && *style != Style::Plain && !piece.is_empty() {
                true => shown.push_str(&format!("{}{piece}\x1b[0m", style.code())),
                false => shown.push_str(&piece),
            }
        }
        if is_cut {
            shown.push('…');
        }
        shown.truncate(shown.trim_end_matches(' ').len());
        shown
    }
}

/// Standard output, with the capabilities of its terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    out: Stdout,
    is_terminal: bool,
    colours: bool,
}

impl Terminal {
    pub(super) fn new() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Terminal {
            colours: is_terminal && !no_color,
            out,
            is_terminal,
        }
    }

    /// The maximum width of a line: COLUMNS, or the width of the terminal; unlimited if stdout is not a terminal.
    pub(super) fn columns(&self) -> usize {
        let configured = env::var("COLUMNS")
            .ok()
            .and_then(|configured| configured.parse().ok());
        let configured = configured.filter(|columns| *columns > 0);
        let size = || self.size().map(|(columns, _)| columns);
        configured.or_else(size).unwrap_or(usize::MAX)
    }

    /// Prints lines.
    pub(super) fn print(&mut self, lines: &[StyledLine]) -> io::Result<()> {
        let columns = self.columns();
        let lines = lines.iter().map(|line| line.render(columns, self.colours));
        let text: String = lines.map(|line| line + "\n").collect();
        self.write(&text)
    }

    /// Replaces the contents of the screen; without a terminal, prints the lines and an empty line.
    pub(super) fn replace(&mut self, lines: &[StyledLine]) -> io::Result<()> {
        let Some((_, rows)) = self.size() else {
            self.print(lines)?;
            return self.write("\n");
        };
        let columns = self.columns();
        // Overwrites from the top left corner, and clears the rest of each line and of the screen. The last row stays
        // unused: a line break there would scroll the first row out.
        let mut text = "\x1b[H".to_owned();
        for line in &lines[..lines.len().min(rows.saturating_sub(1))] {
            text.push_str(&line.render(columns, self.colours));
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b[J");
        self.write(&text)
    }

    /// Writes a text without truncating its lines.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Columns and rows, if stdout is a terminal with a known size.
    fn size(&self) -> Option<(usize, usize)> {
        let size = self.is_terminal.then(|| tcgetwinsize(&self.out).ok())??;
        let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
        (columns > 0 && rows > 0).then_some((columns, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_with_and_without_colours() {
        let line = StyledLine::new("abc", Style::Good).and(" defg", Style::Plain);
        assert_eq!(line.render(8, false), "abc defg");
        assert_eq!(line.render(7, false), "abc de…");
        assert_eq!(line.render(7, true), "\x1b[32mabc\x1b[0m de…");
        assert_eq!(line.render(3, true), "\x1b[32mab\x1b[0m…");
        assert_eq!(line.render(1, false), "…");
    }

    #[test]
    fn a_line_is_one_line() {
        let line = StyledLine::new("a\nb\x1b[31mc  ", Style::Plain);
        assert_eq!(line.render(80, false), "a b [31mc");
    }
}
