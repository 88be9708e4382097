//! A YAML file as a tree of values, each with its line and column.
//!
//! Scalars keep their text as written, and whether they are quoted: `1.10` is not `1.1` here, and `~` is not a file name.

use std::collections::{HashMap, HashSet};
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::errors::Problem;
use super::hints::quote;

/// Values in one file, aliases expanded. A file of 1 MiB without aliases cannot hold more; aliases of aliases could
/// expand to more than any memory holds.
const MAX_NODES: usize = 1_000_000;

/// Nested lists and maps. Reading a value recurses into it.
const MAX_DEPTH: usize = 64;

/// Brackets that are open at the same time. The scanner reads them all before this module sees the first one.
const MAX_BRACKETS: usize = 256;

/// A line and a column, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    const START: Position = Position { line: 1, column: 1 };

    fn of(span: &Span) -> Self {
        Position {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A key without a value, or one of YAML's words for null.
    Null,
    /// Text, a number, a boolean: the text as written, without quotes.
    Scalar {
        text: String,
        is_plain: bool,
    },
    List(Vec<Node>),
    /// The entries in the order of the file; no key is there twice.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) value: Node,
    /// The value stands for the map with this key alone, as `"0.0.0.0:80"` does for `{ address: "0.0.0.0:80" }`.
    pub(super) is_implied: bool,
}

impl Node {
    /// A value that is written in this program, such as a default.
    pub(super) fn of(text: &str) -> Node {
        let content = match text {
            "{}" => Some(Content::Map(Vec::new())),
            "[]" => Some(Content::List(Vec::new())),
            _ if text.starts_with(['[', '{', '"']) => None,
            _ => Some(scalar(text, true)),
        };
        if let Some(content) = content {
            return Node {
                position: Position::START,
                content,
            };
        }
        let document =
            parse(text).expect("defaults and examples are valid YAML, which a test checks");
        document.root
    }

    /// The map that this scalar is the short form of.
    pub(super) fn as_map_of(&self, key: &str) -> Node {
        let entry = Entry {
            key: key.to_owned(),
            position: self.position,
            value: self.clone(),
            is_implied: true,
        };
        Node {
            position: self.position,
            content: Content::Map(vec![entry]),
        }
    }

    /// The value of a key, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let found = self.entries().iter().find(|entry| entry.key == key)?;
        Some(&found.value)
    }

    /// The entries, if this is a map.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements, if this is a list.
    pub(super) fn elements(&self) -> &[Node] {
        match &self.content {
            Content::List(list) => list,
            _ => &[],
        }
    }

    /// The text, if this is a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// What a message calls this value.
    pub(super) fn describe(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::Scalar { text, .. } => quote(text),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
        }
    }

    /// The value as JSON has it; plain numbers and booleans are such there.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.content {
            Content::Null => Json::Null,
            Content::Scalar { text, is_plain } => {
                let plain = is_plain.then(|| match text.as_str() {
                    "true" => Some(Json::Bool(true)),
                    "false" => Some(Json::Bool(false)),
                    text => text.parse::<u64>().ok().map(Json::from),
                });
                plain.flatten().unwrap_or_else(|| Json::from(text.as_str()))
            }
            Content::List(list) => list.iter().map(Node::to_json).collect(),
            Content::Map(entries) => {
                let entries = entries.iter();
                entries
                    .map(|entry| (entry.key.clone(), entry.value.to_json()))
                    .collect()
            }
        }
    }

    fn size(&self) -> usize {
        let inner: usize = match &self.content {
            Content::List(list) => list.iter().map(Node::size).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
            Content::Null | Content::Scalar { .. } => 0,
        };
        inner + 1
    }
}

/// The way from the top of a file to a value, written as `pools.web.hosts[2]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    /// The element of a list that has this name.
    Name(String),
}

impl Path {
    pub(super) fn push_key(&mut self, key: &str) {
        self.0.push(Step::Key(key.to_owned()));
    }

    /// `index` counts from 0.
    pub(super) fn push_index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    pub(super) fn push_name(&mut self, name: &str) {
        self.0.push(Step::Name(name.to_owned()));
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => write!(f, "[{name}]")?,
            }
        }
        Ok(())
    }
}

/// A file that could be read to its end.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    /// Keys that are there twice and tags; the tree has the first of such keys.
    pub(super) problems: Vec<Problem>,
}

/// Reads a whole file.
///
/// # Errors
/// The text is not YAML, holds more than one document, or is nested too deeply.
pub(super) fn parse(text: &str) -> Result<Document, Problem> {
    if has_too_many_brackets(text) {
        return Err(Problem::of_file("the brackets are nested too deeply"));
    }
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        open: Vec::new(),
        path: Path::default(),
        nodes_left: MAX_NODES,
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

/// A plain scalar may be null.
fn scalar(text: &str, is_plain: bool) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if is_plain => Content::Null,
        _ => Content::Scalar {
            text: text.to_owned(),
            is_plain,
        },
    }
}

struct Builder<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    /// Where the lists and maps begin that have not ended yet.
    open: Vec<Span>,
    path: Path,
    nodes_left: usize,
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
                    return Err(Problem::of_file(message));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, span)?),
            }
        }
        Ok(root.unwrap_or(Node {
            position: Position::START,
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
        let position = Position::of(&span);
        self.nodes_left = self.nodes_left.saturating_sub(1);
        if self.nodes_left == 0 {
            return Err(too_many_nodes(position));
        }
        let (content, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, position),
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                (scalar(&text, is_plain), anchor, tag)
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
            self.charge(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Problem::at(
                position,
                "this alias stands within its own anchor",
            ));
        };
        self.charge(&node)?;
        Ok(Node { position, ..node })
    }

    /// Counts a copy of a value.
    fn charge(&mut self, node: &Node) -> Result<(), Problem> {
        let left = self.nodes_left.checked_sub(node.size());
        self.nodes_left = left.ok_or_else(|| too_many_nodes(node.position))?;
        Ok(())
    }

    fn enter(&mut self, span: Span) -> Result<(), Problem> {
        if self.open.len() == MAX_DEPTH {
            let message = "the values are nested too deeply";
            return Err(Problem::at(Position::of(&span), message));
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
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let position = Position::of(&span);
            let Event::Scalar(key, ..) = event else {
                return Err(Problem::at(position, "a key is a single value"));
            };
            let key = key.into_owned();
            let is_new = keys.insert(key.clone());
            if !is_new {
                self.note(position, &format!("the key {} is here twice", quote(&key)));
            }
            let (event, span) = self.next()?;
            self.path.push_key(&key);
            let mut value = self.node(event, span)?;
            self.path.pop();
            if value.is_null() {
                // The parser sees that a value is missing only at what follows.
                value.position = position;
            }
            if is_new {
                entries.push(Entry {
                    key,
                    position,
                    value,
                    is_implied: false,
                });
            }
        }
        self.open.pop();
        Ok(entries)
    }

    fn note(&mut self, position: Position, message: &str) {
        self.problems
            .push(Problem::with_path(position, &self.path, message));
    }

    /// A syntax error in the words of people who write YAML by hand.
    fn syntax(&self, error: &ScanError) -> Problem {
        let position = Position {
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
            let Position { line, column } = Position::of(span);
            Some(format!(
                "the {what} that begins at {line}:{column} has no `{end}`, or a comma is missing here"
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
            Some(Position { line, column })
        })
    }
}

fn too_many_nodes(position: Position) -> Problem {
    Problem::at(
        position,
        "the aliases of this file expand to too many values",
    )
}
