//! YAML files as a tree of values, each with its line and column.
//!
//! Scalars keep their text as written, and whether they are quoted: `1.10` is not `1.1` here, and `~` is not a file name.

use std::fmt;

use super::hints::quote;
use super::yaml::{self, NodeBudget};

/// A file, a line and a column. Lines and columns are counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    /// 0 is the main file; included files follow in the order in which they are read.
    pub(super) file: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    pub(super) const START: Position = Position::start_of(0);

    pub(super) const fn start_of(file: usize) -> Position {
        Position {
            file,
            line: 1,
            column: 1,
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

impl Content {
    /// A scalar as written; a plain one may be null.
    pub(super) fn scalar(text: &str, is_plain: bool) -> Content {
        match text {
            "" | "~" | "null" | "Null" | "NULL" if is_plain => Content::Null,
            _ => Content::Scalar {
                text: text.to_owned(),
                is_plain,
            },
        }
    }
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
            _ => Some(Content::scalar(text, true)),
        };
        if let Some(content) = content {
            return Node {
                position: Position::START,
                content,
            };
        }
        let document = yaml::parse(text, 0, &mut NodeBudget::default())
            .expect("defaults and examples are valid YAML, which a test checks");
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

    /// How many values this one holds, itself included.
    pub(super) fn size(&self) -> usize {
        let inner: usize = match &self.content {
            Content::List(list) => list.iter().map(Node::size).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
            Content::Null | Content::Scalar { .. } => 0,
        };
        inner + 1
    }

    /// How many lists and maps are nested here, this one included.
    pub(super) fn depth(&self) -> usize {
        match &self.content {
            Content::List(list) => 1 + list.iter().map(Node::depth).max().unwrap_or(0),
            Content::Map(entries) => {
                let values = entries.iter().map(|entry| entry.value.depth());
                1 + values.max().unwrap_or(0)
            }
            Content::Null | Content::Scalar { .. } => 0,
        }
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
