//! The closed sets that label metrics: never ids, never paths. Each value knows its text, and its place, so
//! that what is counted often finds its counter without looking a text up.

/// A closed set.
pub(super) trait Label: Copy + Send + Sync + 'static {
    const ALL: &'static [Self];

    fn text(self) -> &'static str;

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;
}

/// One label, or several.
pub(super) trait Labels: Copy + Send + Sync + 'static {
    fn all() -> Vec<Self>;

    /// How many those are.
    fn count() -> usize {
        Self::columns().iter().map(Vec::len).product()
    }

    /// What each label may say.
    fn columns() -> Vec<Vec<&'static str>>;

    /// Its place in [`Self::all`].
    fn index(self) -> usize;

    fn texts(self) -> Vec<&'static str>;
}

impl<L: Label> Labels for L {
    fn all() -> Vec<Self> {
        L::ALL.to_vec()
    }

    fn columns() -> Vec<Vec<&'static str>> {
        vec![texts::<L>()]
    }

    fn index(self) -> usize {
        Label::index(self)
    }

    fn texts(self) -> Vec<&'static str> {
        vec![self.text()]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn all() -> Vec<Self> {
        A::ALL.iter().flat_map(|a| B::ALL.iter().map(|b| (*a, *b))).collect()
    }

    fn columns() -> Vec<Vec<&'static str>> {
        vec![texts::<A>(), texts::<B>()]
    }

    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }

    fn texts(self) -> Vec<&'static str> {
        vec![self.0.text(), self.1.text()]
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    fn all() -> Vec<Self> {
        <(A, B)>::all().into_iter().flat_map(|(a, b)| C::ALL.iter().map(move |c| (a, b, *c))).collect()
    }

    fn columns() -> Vec<Vec<&'static str>> {
        vec![texts::<A>(), texts::<B>(), texts::<C>()]
    }

    fn index(self) -> usize {
        Labels::index((self.0, self.1)) * C::ALL.len() + self.2.index()
    }

    fn texts(self) -> Vec<&'static str> {
        vec![self.0.text(), self.1.text(), self.2.text()]
    }
}

impl<A: Label, B: Label, C: Label, D: Label> Labels for (A, B, C, D) {
    fn all() -> Vec<Self> {
        let firsts = <(A, B, C)>::all().into_iter();
        firsts.flat_map(|(a, b, c)| D::ALL.iter().map(move |d| (a, b, c, *d))).collect()
    }

    fn columns() -> Vec<Vec<&'static str>> {
        vec![texts::<A>(), texts::<B>(), texts::<C>(), texts::<D>()]
    }

    fn index(self) -> usize {
        Labels::index((self.0, self.1, self.2)) * D::ALL.len() + self.3.index()
    }

    fn texts(self) -> Vec<&'static str> {
        vec![self.0.text(), self.1.text(), self.2.text(), self.3.text()]
    }
}

fn texts<L: Label>() -> Vec<&'static str> {
    L::ALL.iter().map(|value| value.text()).collect()
}

macro_rules! labels {
    ($($(#[$meta:meta])* $visible:vis enum $name:ident {
        $($(#[$of:meta])* $variant:ident = $text:literal),+ $(,)?
    })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visible enum $name {
            $($(#[$of])* $variant),+
        }

        impl $name {
            #[must_use]
            $visible const fn label(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn text(self) -> &'static str {
                self.label()
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

mod auth;
mod errors;
mod exchanges;
mod foreign;
mod methods;
mod node;
mod shared;
mod streams;

pub use auth::{AuthOutcome, Credential, Introspected};
pub(super) use errors::ErrorType;
pub use errors::{Said, UpstreamFault};
pub(super) use exchanges::ToolOutcome;
pub use exchanges::{Era, Eras, ExchangeEnd, Outcome};
pub use methods::Method;
pub(super) use node::HttpStatus;
pub use node::{NodePhase, Queue};
pub(super) use shared::{
    BusOutcome, BusStep, FenceOutcome, FenceStep, Message, SpanEnd, StoreOutcome, StoreStep,
};
pub use shared::{RelayEnd, RelaySide, SharedRate, TakeoverEnd};
pub(super) use streams::Claim;
pub use streams::{Lookup, ResumeEnd, SessionEnd, StreamEnd};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::{Limit, Transport};

    fn check<L: Labels>() {
        let places: Vec<_> = L::all().into_iter().map(Labels::index).collect();
        assert_eq!(places, (0..places.len()).collect::<Vec<_>>());
        let texts: BTreeSet<_> = L::all().into_iter().map(Labels::texts).collect();
        assert_eq!((texts.len(), L::count()), (places.len(), places.len()), "two values have one text");
    }

    #[test]
    fn every_value_has_a_place_and_a_text_of_its_own() {
        check::<StreamEnd>();
        check::<Limit>();
        check::<ErrorType>();
        check::<(Transport, HttpStatus)>();
        check::<(Credential, AuthOutcome, Outcome)>();
        check::<(Method, Era, Era, ExchangeEnd)>();
    }
}
