//! `errors`: pages for responses of the proxy's own.

use super::document::Node;
use super::hints::quote;
use super::page::Page;
use super::schema::{Kind, Reader, converted, map_of, table};
use super::status::parse_range;

/// There are 200 statuses of errors.
const MAX_PAGES: usize = 200;

/// Status codes from the first to the last one.
type Statuses = (u16, u16);

/// Pages by status, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorPages(Vec<(Statuses, Page)>);

impl ErrorPages {
    /// The first page for a status.
    pub fn find(&self, status: u16) -> Option<&Page> {
        let mut pages = self.0.iter();
        let found = pages.find(|((first, last), _)| (*first..=*last).contains(&status));
        found.map(|(_, page)| page)
    }
}

/// The value of `errors`.
pub(super) fn error_pages() -> impl Kind<Value = ErrorPages> {
    let page = map_of::<Page>().with_hint(|_| Some("it as in `{ file: /etc/ballast/503.html }`"));
    let page = converted(page, with_text, Page::clone);
    let pages = table(
        "a map of statuses and pages",
        MAX_PAGES,
        read_statuses,
        write_statuses,
        page,
    );
    converted(pages, without_hidden, |pages: &ErrorPages| pages.0.clone())
}

fn with_text(page: Page, node: &Node, reader: &mut Reader<'_>) -> Option<Page> {
    if page.text().is_none() {
        let message =
            "a page needs `body` or `file`; write it as in `{ file: /etc/ballast/503.html }`";
        reader.problem(node, message);
        return None;
    }
    Some(page)
}

/// Reports each page that no response gets, because an earlier one has all of its statuses.
fn without_hidden(
    pages: Vec<(Statuses, Page)>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<ErrorPages> {
    let before = reader.problem_count();
    for (index, ((first, last), _)) in pages.iter().enumerate() {
        let mut earlier = pages[..index].iter().map(|(statuses, _)| statuses);
        let hiding = earlier.find(|(low, high)| low <= first && last <= high);
        if let (Some(hiding), Some(entry)) = (hiding, node.entries().get(index)) {
            let message = format!(
                "no response gets this page, because {} before it has the same status; put this one first or remove it",
                quote(&write_statuses(hiding))
            );
            reader.in_key(&entry.key, |reader| reader.problem(&entry.value, message));
        }
    }
    (reader.problem_count() == before).then_some(ErrorPages(pages))
}

fn read_statuses(text: &str) -> Result<Statuses, String> {
    if let Some(class @ ("4" | "5")) = text.to_ascii_lowercase().strip_suffix("xx") {
        return Err(format!(
            "{} is not a status; did you mean `{class}00-{class}99`?",
            quote(text)
        ));
    }
    let (first, last) = parse_range(text)?;
    match first {
        400.. => Ok((first, last)),
        _ => Err(format!(
            "{} is not an error; there are pages for the statuses from 400 to 599",
            quote(text)
        )),
    }
}

fn write_statuses(&(first, last): &Statuses) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}
