//! Places in the document: how they are written (`pools.web.hosts[2]`), and in which line and column they stand.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Value};

/// More values than a file of the largest size can hold without aliases. Aliases may repeat parts of a file; without
/// this bound a megabyte of them unfolds to more than any memory holds.
const MOST_VALUES: usize = 1_000_000;

/// More brackets open at once than any configuration needs. serde_yaml follows 128; yet its parser reads the whole file
/// before that, at a cost that grows with the depth of each value, so that a megabyte of brackets would take minutes.
const MOST_BRACKETS: usize = 256;

/// The way from the top of the document to a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place(Vec<Step>);

/// A part of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    /// The value behind `key` of the map here.
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// The element `index` of the list here, counted from 0.
    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// Where this place is in `text`; if there is no such value, where the innermost one around it is.
    ///
    /// serde_yaml tells positions with its errors only, so this reads the document once more and fails on purpose.
    pub(super) fn locate(&self, text: &str) -> Option<Location> {
        let found = Seek {
            steps: &self.0,
            stops_at_key: false,
        };
        let found = found.deserialize(serde_yaml::Deserializer::from_str(text));
        found.err()?.location()
    }

    /// Where the last key of this place is in `text`.
    pub(super) fn locate_key(&self, text: &str) -> Option<Location> {
        let found = Seek {
            steps: &self.0,
            stops_at_key: true,
        };
        let found = found.deserialize(serde_yaml::Deserializer::from_str(text));
        found.err()?.location()
    }

    /// The way, step by step.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The way to the innermost value here that a map holds.
    pub(super) fn keys(&self) -> &[Step] {
        let is_key = |step: &Step| matches!(step, Step::Key(_));
        let length = self.0.iter().rposition(is_key).map_or(0, |last| last + 1);
        &self.0[..length]
    }

    /// The place below this one that serde_yaml writes as `path`. Keys may have dots and brackets in them, so `document`,
    /// which is what stands here, decides.
    pub(super) fn find(&self, path: &str, document: &Value) -> Option<Self> {
        if path.is_empty() {
            return Some(self.clone());
        }
        if let Value::Sequence(list) = document {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let index: usize = index.parse().ok()?;
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            return self.index(index).find(rest, list.get(index)?);
        }
        document.as_mapping()?.iter().find_map(|(key, value)| {
            let key = key.as_str()?;
            let rest = path.strip_prefix(key)?;
            let rest = match rest.strip_prefix('.') {
                Some(rest) => rest,
                None if rest.is_empty() || rest.starts_with('[') => rest,
                None => return None,
            };
            self.key(key).find(rest, value)
        })
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Place(steps)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Goes along the steps and ends in an error, wherever that may be.
#[derive(Clone, Copy)]
struct Seek<'a> {
    steps: &'a [Step],
    /// Whether it ends at the last key, in front of its value.
    stops_at_key: bool,
}

impl Seek<'_> {
    fn then(self, rest: &[Step]) -> Seek<'_> {
        Seek {
            steps: rest,
            ..self
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("to arrive")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), rest)) = self.steps.split_first() {
            if self.stops_at_key && rest.is_empty() {
                while map.next_key_seed(OtherKey(wanted))?.is_some() {
                    map.next_value::<IgnoredAny>()?;
                }
                return Err(A::Error::custom("arrived"));
            }
            while let Some(key) = map.next_key::<String>()? {
                if key == *wanted {
                    return map.next_value_seed(self.then(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("arrived"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), rest)) = self.steps.split_first() {
            for _ in 0..*wanted {
                seq.next_element::<IgnoredAny>()?;
            }
            seq.next_element_seed(self.then(rest))?;
        }
        Err(A::Error::custom("arrived"))
    }
}

/// Any key but one, at which it fails.
struct OtherKey<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for OtherKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for OtherKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        match key == self.0 {
            true => Err(E::custom("arrived")),
            false => Ok(()),
        }
    }
}

/// Whether brackets are nested beyond all reason. Those in quotes and comments count as well, since being exact would
/// take the very parser that this protects.
pub(super) fn is_too_deep(text: &str) -> bool {
    let mut open = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MOST_BRACKETS
    })
}

/// Judges what holds for every document, whatever its keys mean: no key twice in a map, no tags, no aliases that unfold
/// without bound.
pub(super) fn survey(text: &str) -> Result<(), serde_yaml::Error> {
    let mut left = MOST_VALUES;
    Survey(&mut left).deserialize(serde_yaml::Deserializer::from_str(text))
}

struct Survey<'a>(&'a mut usize);

impl Survey<'_> {
    fn one_value<E: Error>(self) -> Result<(), E> {
        *self.0 = self
            .0
            .checked_sub(1)
            .ok_or_else(|| E::custom("the aliases of this file unfold to too many values"))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Survey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Survey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.one_value()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.one_value()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.one_value()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.one_value()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.one_value()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.one_value()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.one_value()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.one_value()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.one_value()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Survey(&mut *self.0))?.is_some() {}
        self.one_value()
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(
            "a tag such as `!this` has no meaning here",
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(Survey(&mut *self.0))?;
        }
        self.one_value()
    }
}

/// A key that its map did not have yet.
struct NewKey<'a>(&'a mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) {
            Ok(())
        } else {
            Err(E::custom(format_args!("the key `{key}` is here twice")))
        }
    }
}
