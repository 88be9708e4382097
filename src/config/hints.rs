//! How messages show values, and hints for values that are almost right.

/// Characters of a message; a longer one is cut, since it may quote a value of any length.
const MAX_MESSAGE: usize = 600;
/// Characters of a quoted value; a longer one is cut.
const MAX_QUOTE: usize = 80;
/// Bytes of a word that gets a hint: comparing costs the product of the lengths.
const MAX_COMPARED: usize = 64;

/// A value in backticks, on one line and cut to [`MAX_QUOTE`].
pub(super) fn quote(value: &str) -> String {
    if value.is_empty() {
        return "nothing".to_owned();
    }
    format!("`{}`", printable(value, MAX_QUOTE))
}

/// A message on one line, without control characters, cut to [`MAX_MESSAGE`].
pub(super) fn one_line(message: &str) -> String {
    printable(message, MAX_MESSAGE)
}

fn printable(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == longest {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The known word that is closest to `word`, if it is close.
fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_COMPARED {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    let (distance, found) = known
        .into_iter()
        .filter(|known| known.len() <= MAX_COMPARED)
        .map(|known| (strsim::damerau_levenshtein(&word, &plain(known)), known))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may be wrong; beyond that a hint is a guess.
    (distance <= (found.len() / 3).max(1)).then_some(found)
}

/// Words of nginx, HAProxy, Envoy, Traefik and Caddy, and the word for the same here.
const FOREIGN: [(&str, &str); 37] = [
    ("leastconn", "least_load"),
    ("least_conn", "least_load"),
    ("least_connections", "least_load"),
    ("least_request", "least_load"),
    ("rr", "round_robin"),
    ("wrr", "round_robin"),
    ("static_rr", "round_robin"),
    ("roundrobin", "round_robin"),
    ("first", "round_robin"),
    ("source", "ip_hash"),
    ("source_ip", "ip_hash"),
    ("hash", "consistent_hash"),
    ("uri", "consistent_hash"),
    ("ketama", "consistent_hash"),
    ("ring_hash", "consistent_hash"),
    ("power_of_two", "p2c"),
    ("gzip", "compression"),
    ("compress", "compression"),
    ("encode", "compression"),
    ("brotli", "br"),
    ("gz", "gzip"),
    ("x_gzip", "gzip"),
    ("deflate", "gzip"),
    ("gzip_types", "types"),
    ("gzip_min_length", "min_size"),
    ("min_length", "min_size"),
    ("balance", "algorithm"),
    ("lb_policy", "algorithm"),
    ("lb", "algorithm"),
    ("server", "hosts"),
    ("servers", "hosts"),
    ("targets", "hosts"),
    ("endpoints", "hosts"),
    ("upstream", "pools"),
    ("upstreams", "pools"),
    ("backends", "pools"),
    ("bind", "listeners"),
];

/// `; did you mean …?`, or nothing if nothing is close.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known = Vec::from_iter(known);
    let plain = word.to_lowercase().replace(['-', ' '], "_");
    let mut foreign = FOREIGN.iter();
    let translated = foreign.find(|(word, ours)| *word == plain && known.contains(ours));
    let translated = translated.map(|(_, ours)| *ours);
    match translated.or_else(|| closest(word, known)) {
        Some(found) => format!("; did you mean `{found}`?"),
        None => String::new(),
    }
}
