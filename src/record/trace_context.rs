//! W3C Trace Context of a request: <https://www.w3.org/TR/trace-context/>.

use http::HeaderName;

use super::hex_id::{hex_u128, parse_hex, random_u128};
use crate::config::Share;
use crate::thread_random::thread_random;

/// The field with trace id, parent span id and flags.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The length of a traceparent of version `00`.
const LENGTH: usize = 55;
/// The flag for a recorded trace.
const SAMPLED: u8 = 1;

/// A request's position in a distributed trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace id; never 0.
    pub id: u128,
    /// The client's span id; `None` if the trace starts here.
    pub parent: Option<u64>,
    /// The span id of the request; never 0.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Starts a trace, which is recorded with the probability `share`.
    pub fn new_root(share: Share) -> Self {
        let id = random_u128().max(1);
        TraceContext {
            id,
            parent: None,
            span: TraceContext::new_span(),
            // The lower half is the one that every participant treats as random.
            sampled: share.takes(id as u64),
        }
    }

    /// Continues the trace of a traceparent with a new span; `None` if the value is invalid.
    pub fn from_traceparent(traceparent: &[u8]) -> Option<Self> {
        let (known, extra) = traceparent.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let version = parse_hex(parts.next()?, 2)?;
        let id = parse_hex(parts.next()?, 32)?;
        let parent = parse_hex(parts.next()?, 16)?;
        let flags = parse_hex(parts.next()?, 2)?;
        let is_whole = match version {
            0 => extra.is_empty(),
            0xff => false,
            // Later versions may append fields.
            _ => matches!(extra, [] | [b'-', ..]),
        };
        (is_whole && parts.next().is_none() && id != 0 && parent != 0).then(|| TraceContext {
            id,
            parent: Some(parent as u64),
            span: TraceContext::new_span(),
            sampled: flags as u8 & SAMPLED != 0,
        })
    }

    /// A new random span id; never 0.
    pub fn new_span() -> u64 {
        thread_random().max(1)
    }

    /// The traceparent for a child of `span`.
    pub fn to_traceparent(&self, span: u64) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&hex_u128(self.id));
        text[36..52].copy_from_slice(&hex_u128(span.into())[16..]);
        text[54] += u8::from(self.sampled);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_continued_and_passed_on() {
        let trace = TraceContext::from_traceparent(GOOD.as_bytes()).unwrap();
        assert_eq!(trace.id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(trace.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert!(trace.sampled && trace.span != 0);
        assert_eq!(trace.to_traceparent(0x00f0_67aa_0ba9_02b7), GOOD.as_bytes());
        let unsampled =
            TraceContext::from_traceparent(GOOD.replace("-01", "-00").as_bytes()).unwrap();
        assert!(!unsampled.sampled);
        // Unknown flags are ignored and not passed on.
        let more = TraceContext::from_traceparent(GOOD.replace("-01", "-ff").as_bytes()).unwrap();
        assert_eq!(more.to_traceparent(0x00f0_67aa_0ba9_02b7), GOOD.as_bytes());
    }

    #[test]
    fn a_later_version_may_append_fields() {
        let later = GOOD.replacen("00", "cc", 1);
        for more in ["", "-", "-what comes"] {
            let text = format!("{later}{more}");
            assert!(
                TraceContext::from_traceparent(text.as_bytes()).is_some(),
                "{text}"
            );
        }
        assert!(TraceContext::from_traceparent(format!("{later}x").as_bytes()).is_none());
    }

    #[test]
    fn an_invalid_value_is_ignored() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let no_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        for text in [
            "",
            "00",
            zero,
            no_parent,
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &format!("{GOOD}-"),
            &format!("{GOOD} "),
            &GOOD.replace('-', "_"),
            &GOOD.replace("4bf9", "4bg9"),
            &GOOD.replace("00-4bf", "0-04bf"),
            &GOOD[..54],
        ] {
            assert_eq!(
                TraceContext::from_traceparent(text.as_bytes()),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn new_traces_have_different_ids() {
        let (one, other) = (
            TraceContext::new_root(Share::of_percent(100.0)),
            TraceContext::new_root(Share::of_percent(0.0)),
        );
        assert!(one.id != other.id && one.span != other.span);
        assert!(one.sampled && !other.sampled);
        assert_eq!(one.parent, None);
    }
}
