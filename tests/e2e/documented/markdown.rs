//! The blocks and commands of the documents.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the documentation.
pub(super) struct Document {
    /// Its path from the root of the repository.
    pub(super) name: String,
    pub(super) text: String,
}

/// A fenced block.
#[derive(Debug)]
pub(super) struct Block<'a> {
    /// The document and the line of the fence, for messages.
    pub(super) place: String,
    pub(super) language: &'a str,
    pub(super) text: String,
    /// The file that the paragraph before the block says the block is.
    pub(super) file: Option<&'a str>,
}

/// README.md, CONTRIBUTING.md, those of docs/ and that of the library.
pub(super) fn documents() -> Vec<Document> {
    let root = root();
    let mut names = ["README.md", "CONTRIBUTING.md", "balancer/README.md"].map(str::to_owned);
    names.sort();
    let docs = fs::read_dir(root.join("docs")).expect("the repository has docs/");
    let docs = docs.map(|file| file.expect("an entry").file_name());
    let docs = docs.filter_map(|name| name.into_string().ok());
    let docs = docs.filter(|name| name.ends_with(".md"));
    let mut docs = Vec::from_iter(docs.map(|name| format!("docs/{name}")));
    docs.sort();
    let names = names.into_iter().chain(docs);
    let documents = names.map(|name| Document {
        text: fs::read_to_string(root.join(&name)).expect("the document can be read"),
        name,
    });
    let documents = Vec::from_iter(documents);
    assert!(documents.len() > 10, "{}", documents.len());
    documents
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

impl Document {
    /// The document at a path from the root of the repository.
    pub(super) fn named(name: &str) -> Self {
        let mut documents = documents().into_iter();
        let document = documents.find(|document| document.name == name);
        document.expect("the document exists")
    }

    /// Its fenced blocks in their order.
    pub(super) fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut paragraph = Vec::new();
        let mut open: Option<Block<'_>> = None;
        for (number, line) in self.text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (open.as_mut(), fence) {
                (None, Some(language)) => {
                    open = Some(Block {
                        place: format!("{}:{}", self.name, number + 1),
                        language,
                        text: String::new(),
                        file: named_file(&paragraph),
                    });
                }
                (Some(_), Some(_)) => {
                    blocks.extend(open.take());
                    paragraph.clear();
                }
                (Some(block), None) => block.text += &format!("{line}\n"),
                (None, None) if line.is_empty() => {
                    // A blank line between a paragraph and its block does not part them.
                    if self
                        .text
                        .lines()
                        .nth(number + 1)
                        .is_some_and(|next| !next.starts_with("```"))
                    {
                        paragraph.clear();
                    }
                }
                (None, None) => paragraph.push(line),
            }
        }
        assert!(open.is_none(), "{}: a block has no end", self.name);
        blocks
    }

    /// The code within its lines of text, with the number of the line.
    pub(super) fn inline_code(&self) -> Vec<(usize, String)> {
        let mut is_fenced = false;
        // A span may continue on the next line.
        let mut text = String::new();
        for line in self.text.lines() {
            let is_fence = line.trim_start().starts_with("```");
            if !is_fenced && !is_fence {
                text += line;
            }
            is_fenced ^= is_fence;
            text.push('\n');
        }
        let mut spans = Vec::new();
        let mut line = 1;
        for (number, piece) in text.split('`').enumerate() {
            if number % 2 == 1 {
                let words = Vec::from_iter(piece.split_whitespace());
                spans.push((line, words.join(" ")));
            }
            line += piece.matches('\n').count();
        }
        spans
    }
}

/// The path in the last code of a paragraph that ends with a colon, as in "Write `web.yaml`:".
fn named_file<'a>(paragraph: &[&'a str]) -> Option<&'a str> {
    if !paragraph.last()?.ends_with(':') {
        return None;
    }
    let line = paragraph.iter().rev().find(|line| line.contains('`'))?;
    let path = line.split('`').nth_back(1)?;
    path.ends_with(".yaml").then_some(path)
}
