//! Sets of other rooms that label metrics.

use super::Label;
use crate::domain::{Limit, StreamKind, Transport};
use crate::ports::Refusal;

impl Label for Limit {
    const ALL: &'static [Self] = &Self::ALL;

    fn text(self) -> &'static str {
        self.key()
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for StreamKind {
    const ALL: &'static [Self] = &[Self::Get, Self::Post, Self::HttpSse];

    fn text(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::HttpSse => "http_sse",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Transport {
    const ALL: &'static [Self] = &[Self::Streamable, Self::HttpSse];

    fn text(self) -> &'static str {
        match self {
            Self::Streamable => "streamable",
            Self::HttpSse => "http_sse",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Refusal {
    const ALL: &'static [Self] = &Self::ALL;

    fn text(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Overtaken => "overtaken",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}
