//! Writes SVG: shapes with classes, for a style sheet inside that fits light and dark surroundings.

use std::fmt::Write;

/// A drawing that grows.
#[derive(Debug, Default)]
pub(super) struct Svg(String);

/// Where a text has its given point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        self.push(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"/>"#
        ));
    }

    /// A rectangle in this style, which shows `title` under the pointer.
    pub(super) fn bar(
        &mut self,
        style: &str,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        title: &str,
    ) {
        let title = escaped(title);
        self.push(format_args!(
            r#"<rect style="{style}" x="{x:.1}" y="{y:.1}" width="{width:.2}" height="{height:.1}"><title>{title}</title></rect>"#
        ));
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.push(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("writing to a String cannot fail");
    }

    /// The whole file, of this size, title and style sheet.
    pub(super) fn into_file(self, (width, height): (f64, f64), title: &str, style: &str) -> String {
        let title = escaped(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<title>{title}</title>\n<style>{style}</style>\n{}</svg>\n",
            self.0
        )
    }
}

/// The text of an element; characters that XML does not have become spaces.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_an_element() {
        let mut svg = Svg::default();
        svg.text("name", (1.0, 2.0), Anchor::End, "a<b> & \u{0}c");
        let file = svg.into_file((10.0, 20.0), "<x>", "");
        assert!(file.contains(
            r#"<text class="name" x="1.0" y="2.0" text-anchor="end">a&lt;b&gt; &amp;  c</text>"#
        ));
        assert!(file.contains("<title>&lt;x&gt;</title>"));
        assert!(file.ends_with("</svg>\n"));
    }
}
