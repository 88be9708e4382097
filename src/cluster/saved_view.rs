//! What a member knew last, on disk, for a start while etcd does not answer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::secret::ClusterSecret;
use super::view::{ClusterView, KeyNames, SharedChanges};
use crate::state_file::{self, OTHERS_READ_OR_WRITE};
use crate::timestamp::Timestamp;

/// The part of a view that outlives a process. Who the other members are does not; how many they are does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedView {
    /// When it was written.
    pub(super) saved: Timestamp,
    /// Live members, this one included.
    pub(super) members: u32,
    changes: BTreeMap<String, SharedChanges>,
    secret: Option<ClusterSecret>,
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Content {
    /// What the cluster's keys began with.
    prefix: String,
    #[serde(flatten)]
    view: SavedView,
}

/// The file of a member. It holds the secret, so nobody else may read it.
#[derive(Debug, Clone)]
pub(super) struct ViewFile {
    path: PathBuf,
    prefix: String,
}

impl SavedView {
    pub(super) fn new(view: &ClusterView, members: u32) -> Self {
        SavedView {
            saved: Timestamp::now(),
            members,
            changes: view.changes.clone(),
            secret: view.secret.clone(),
        }
    }

    /// The view to begin with.
    pub(super) fn view(self) -> ClusterView {
        ClusterView {
            members: Vec::new(),
            changes: self.changes,
            secret: self.secret,
        }
    }
}

impl ViewFile {
    pub(super) fn new(directory: &Path, cluster: &str, member: &str, keys: &KeyNames) -> Self {
        // The name of a machine may have any character.
        let plain = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            true => c,
            false => '-',
        };
        let member: String = member.chars().map(plain).collect();
        ViewFile {
            path: directory.join(format!("cluster-{cluster}@{member}.json")),
            prefix: keys.prefix().to_owned(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved; `None` if there is nothing, or that of other keys. Blocks.
    ///
    /// # Errors
    /// It cannot be read, is not what was written, or others may read it.
    pub(super) fn load(&self) -> io::Result<Option<SavedView>> {
        let Some(content) = state_file::read(&self.path, OTHERS_READ_OR_WRITE)? else {
            return Ok(None);
        };
        let content: Content = serde_json::from_slice(&content)?;
        Ok((content.prefix == self.prefix).then_some(content.view))
    }

    /// Replaces what was saved.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub(super) async fn save(&self, view: SavedView) -> io::Result<()> {
        let (path, prefix) = (self.path.clone(), self.prefix.clone());
        let written = spawn_blocking(move || {
            let content = serde_json::to_vec(&Content { prefix, view })?;
            state_file::replace(&path, &content)
        });
        written.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::PoolChanges;

    #[tokio::test]
    async fn what_was_kept_is_found_again_under_the_same_keys_only() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let keys = KeyNames::new("/ballast", "prod");
        let file = ViewFile::new(folder.path(), "prod", "edge 1/é", &keys);
        assert_eq!(file.load().expect("absent"), None);
        let changes = PoolChanges {
            by: "two".to_owned(),
            ..PoolChanges::default()
        };
        let shared = SharedChanges {
            revision: 7,
            changes,
        };
        let view = ClusterView {
            members: Vec::new(),
            changes: BTreeMap::from([("web".to_owned(), shared)]),
            secret: Some(ClusterSecret::random()),
        };
        let saved = SavedView::new(&view, 3);
        file.save(saved).await.expect("written");
        let found = file.load().expect("it is there").expect("of these keys");
        assert_eq!(found.members, 3);
        assert_eq!(found.view(), view);
        let other = KeyNames::new("/other", "prod");
        let other = ViewFile::new(folder.path(), "prod", "edge 1/é", &other);
        assert_eq!(other.load().expect("it is there"), None);
    }
}
