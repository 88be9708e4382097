//! Reads YAML into a tree of values.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::document::{Content, Entry, Node, Path, Position};
use super::errors::Problem;
use super::hints::quote;

/// Values in all files, aliases expanded. Aliases of aliases could expand to more than any memory holds.
const MAX_NODES: usize = 1_000_000;

/// Nested lists and maps. Reading a value recurses into it.
const MAX_DEPTH: usize = 64;
const TOO_DEEP: &str = "the values are nested too deeply";

/// Brackets that are open at the same time. The scanner reads them all before this module sees the first one.
const MAX_BRACKETS: usize = 256;

/// The key whose value is a map, or a list of maps, with further keys.
const MERGE_KEY: &str = "<<";

/// How many values may still be read.
#[derive(Debug)]
pub(super) struct NodeBudget(usize);

impl Default for NodeBudget {
    fn default() -> Self {
        NodeBudget(MAX_NODES)
    }
}

/// A file that could be read to its end.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    /// Keys that are there twice and tags; the tree has the first of such keys.
    pub(super) problems: Vec<Problem>,
}

/// Reads a whole file, whose index is `file`.
///
/// # Errors
/// The text is not YAML, holds more than one document, or is nested too deeply.
pub(super) fn parse(text: &str, file: usize, budget: &mut NodeBudget) -> Result<Document, Problem> {
    if has_too_many_brackets(text) {
        return Err(Problem::of_file(file, "the brackets are nested too deeply"));
    }
    let mut builder = Builder {
        text,
        file,
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        open: Vec::new(),
        path: Path::default(),
        budget,
        problems: Vec::new(),
    };
    let root = builder.document()?;
    Ok(Document {
        root,
        problems: builder.problems,
    })
}

/// Brackets in quotes and comments count as well; telling them apart would take the scanner that this protects.
fn has_too_many_brackets(text: &str) -> bool {
    let mut open = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MAX_BRACKETS
    })
}

struct Builder<'a> {
    text: &'a str,
    file: usize,
    parser: Parser<'a, StrInput<'a>>,
    /// Values with anchors, each with the number of nested lists and maps in it.
    anchors: HashMap<usize, (Node, usize)>,
    /// Where the lists and maps begin that have not ended yet.
    open: Vec<Span>,
    path: Path,
    budget: &'a mut NodeBudget,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "there is more than one document (`---`) in this file";
                    return Err(Problem::of_file(self.file, message));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, span)?),
            }
        }
        Ok(root.unwrap_or(Node {
            position: Position::start_of(self.file),
            content: Content::Null,
        }))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Problem> {
        let position = self.position(&span);
        self.charge(1, position)?;
        let (content, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, position),
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                (Content::scalar(&text, is_plain), anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => {
                self.enter(span)?;
                let list = self.list()?;
                (Content::List(list), anchor, tag)
            }
            Event::MappingStart(anchor, tag) => {
                self.enter(span)?;
                let entries = self.entries()?;
                (Content::Map(entries), anchor, tag)
            }
            _ => return Err(Problem::at(position, "a value is expected here")),
        };
        if tag.is_some() {
            self.note(position, "a tag such as `!this` has no meaning here");
        }
        let node = Node { position, content };
        if anchor > 0 {
            self.charge(node.size(), position)?;
            self.anchors.insert(anchor, (node.clone(), node.depth()));
        }
        Ok(node)
    }

    /// A copy of the value with this anchor. Its positions stay those of the anchor, where its errors can be corrected.
    fn alias(&mut self, anchor: usize, position: Position) -> Result<Node, Problem> {
        let Some((node, depth)) = self.anchors.get(&anchor).cloned() else {
            return Err(Problem::at(
                position,
                "this alias stands within its own anchor",
            ));
        };
        if self.open.len() + depth > MAX_DEPTH {
            return Err(Problem::at(position, TOO_DEEP));
        }
        self.charge(node.size(), position)?;
        Ok(node)
    }

    /// Counts values.
    fn charge(&mut self, count: usize, position: Position) -> Result<(), Problem> {
        let left = self.budget.0.checked_sub(count);
        self.budget.0 = left.ok_or_else(|| {
            let message = format!(
                "there are too many values, those of aliases included; the limit is {MAX_NODES}"
            );
            Problem::at(position, &message)
        })?;
        Ok(())
    }

    fn enter(&mut self, span: Span) -> Result<(), Problem> {
        if self.open.len() == MAX_DEPTH {
            return Err(Problem::at(self.position(&span), TOO_DEEP));
        }
        self.open.push(span);
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<Node>, Problem> {
        let mut list = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            self.path.push_index(list.len());
            list.push(self.node(event, span)?);
            self.path.pop();
        }
        self.open.pop();
        Ok(list)
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Problem> {
        let mut entries = Vec::new();
        let mut keys = HashSet::new();
        let mut merged = None;
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let position = self.position(&span);
            let Event::Scalar(key, style, ..) = event else {
                return Err(Problem::at(position, "a key is a single value"));
            };
            let is_merge = key == MERGE_KEY && style == ScalarStyle::Plain;
            let key = key.into_owned();
            let is_new = keys.insert(key.clone());
            if !is_new {
                let hint = if is_merge {
                    "; write `<<: [*one, *other]`"
                } else {
                    ""
                };
                let message = format!("the key {} is here twice{hint}", quote(&key));
                self.note(position, &message);
            }
            let (event, span) = self.next()?;
            self.path.push_key(&key);
            let mut value = self.node(event, span)?;
            self.path.pop();
            if value.is_null() {
                // The parser sees that a value is missing only at what follows.
                value.position = position;
            }
            if is_new && is_merge {
                merged = Some(value);
            } else if is_new {
                entries.push(Entry {
                    key,
                    position,
                    value,
                    is_implied: false,
                });
            }
        }
        self.open.pop();
        if let Some(merged) = merged {
            self.path.push_key(MERGE_KEY);
            self.merge(merged, &mut entries, keys);
            self.path.pop();
        }
        Ok(entries)
    }

    /// Adds the entries of a map, or of a list of maps, whose keys are not there yet.
    fn merge(&mut self, merged: Node, entries: &mut Vec<Entry>, mut keys: HashSet<String>) {
        let maps = match merged.content {
            Content::List(list) => list,
            _ => vec![merged],
        };
        for map in maps {
            match map.content {
                Content::Map(further) => {
                    let new = further.into_iter();
                    entries.extend(new.filter(|entry| keys.insert(entry.key.clone())));
                }
                _ => {
                    let message = format!(
                        "expected a map or a list of maps, as in `<<: *defaults`, found {}",
                        map.describe()
                    );
                    self.note(map.position, &message);
                }
            }
        }
    }

    fn note(&mut self, position: Position, message: &str) {
        self.problems
            .push(Problem::with_path(position, &self.path, message));
    }

    /// A syntax error in the words of people who write YAML by hand.
    fn syntax(&self, error: &ScanError) -> Problem {
        let position = Position {
            file: self.file,
            line: error.marker().line(),
            column: error.marker().col() + 1,
        };
        if let Some(tab) = self.tab_indentation(position.line) {
            return Problem::at(tab, "tabs cannot indent YAML; use spaces");
        }
        if error.info().contains("unknown anchor") {
            return Problem::at(position, "unknown anchor");
        }
        let bracket = self.open.last().and_then(|span| {
            let begins = self.text.chars().nth(span.start.index())?;
            let (what, end) = match begins {
                '[' => ("list", ']'),
                '{' => ("map", '}'),
                _ => return None,
            };
            let Position { line, column, .. } = self.position(span);
            let mut lines = self.text.lines().take(position.line).skip(line - 1);
            let hint = match lines.any(|line| line.contains("${")) {
                true => "; within brackets, a value with `${` stands in quotes",
                false => "",
            };
            Some(format!(
                "the {what} that begins at {line}:{column} has no `{end}`, or a comma is missing here{hint}"
            ))
        });
        Problem::at(position, &bracket.unwrap_or(error.info().to_owned()))
    }

    /// The first tab that indents a line, up to line `last`.
    fn tab_indentation(&self, last: usize) -> Option<Position> {
        let lines = (1..).zip(self.text.lines()).take(last);
        lines.into_iter().find_map(|(line, text)| {
            let indentation = &text[..text.len() - text.trim_start().len()];
            let column = indentation.find('\t')? + 1;
            Some(Position {
                file: self.file,
                line,
                column,
            })
        })
    }

    /// Where a span begins.
    fn position(&self, span: &Span) -> Position {
        Position {
            file: self.file,
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}
