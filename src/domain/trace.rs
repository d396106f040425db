//! Which trace something is part of, as it is said between processes (W3C Trace Context, level 1).

use std::sync::Arc;

/// The longest `tracestate` that is carried; the recommendation asks for 512 bytes at least.
const STATE_BYTES_MAX: usize = 1024;

/// The longest `traceparent` that is looked at; version 00 has 55 bytes, and later ones may have more.
const PARENT_BYTES_MAX: usize = 256;

/// A span of somebody's, in which what is done here has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: Arc<str>,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads a `traceparent` and, if there is one, a `tracestate`, which means nothing alone. `None` if the first
    /// is of no known form: then a trace begins anew (section 4.3).
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let is_header =
            |state: &&str| (1..=STATE_BYTES_MAX).contains(&state.len()) && state.bytes().all(is_visible);
        let state = state.filter(is_header);
        if parent.len() > PARENT_BYTES_MAX {
            return None;
        }
        let fields: Vec<_> = parent.split('-').collect();
        let [version, trace, span, flags, more @ ..] = &*fields else { return None };
        let hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        // A later version may have more fields.
        let known = hex(version, 2) && *version != "ff" && (*version != "00" || more.is_empty());
        let names = |id: &str, length| hex(id, length) && id.bytes().any(|byte| byte != b'0');
        let whole = known && names(trace, 32) && names(span, 16) && hex(flags, 2);
        whole.then(|| Self {
            parent: format!("00-{trace}-{span}-{flags}").into(),
            state: state.map(Arc::from),
        })
    }

    /// As a `traceparent` of version 00.
    #[must_use]
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// As a `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

const fn is_visible(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn check(parent: &str, read: Option<&str>) {
        let context = TraceContext::parse(parent, None);
        assert_eq!(context.as_ref().map(TraceContext::parent), read, "{parent}");
    }

    #[test]
    fn a_parent_is_read_as_it_is_or_not_at_all() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        check(&good, Some(&good));
        check(&format!("01-{TRACE}-{SPAN}-01-more"), Some(&good));
        check(&format!("00-{TRACE}-{SPAN}-01-more"), None);
        check(&format!("ff-{TRACE}-{SPAN}-01"), None);
        check(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None);
        check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
        check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), None);
        check(&format!("00-{TRACE}-{SPAN}"), None);
        check("", None);
        check(&"-".repeat(300), None);
    }

    #[test]
    fn a_state_that_is_no_header_is_left_out() {
        let state = |state: &str| {
            let context = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-01"), Some(state)).unwrap();
            context.state().map(str::to_owned)
        };
        assert_eq!(state("a=b,c=d").as_deref(), Some("a=b,c=d"));
        assert_eq!(state("a=b\r\nx: y"), None);
        assert_eq!(state(&"a".repeat(2000)), None);
    }
}
