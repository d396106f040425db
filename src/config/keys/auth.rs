//! The keys of who may call.

use crate::config::reader::Section;
use crate::config::secret::Secret;
use crate::config::settings::{AuthConfig, AuthMode};
use crate::config::units::Reason;

pub(super) const AUTH: &str = "Who may call. Each caller is a principal: a session belongs to the one that opened it, and to anybody else looks as if it did not exist.";

const TOKENS: &str = "Static tokens, each under the name of who holds it. `holdfast token NAME` makes one.";

pub(super) fn auth(s: &mut Section<'_, '_>) -> AuthConfig {
    AuthConfig {
        mode: s.choice(
            "mode",
            &[("none", AuthMode::None), ("tokens", AuthMode::Tokens)],
            AuthMode::None,
            "`none`: nobody has to log in, and all callers are one. `tokens`: every request needs one of \
             `auth.tokens`, as `Authorization: Bearer TOKEN`.",
        ),
        insecure: s.switch(
            "insecure",
            false,
            "`on` lets `auth.mode: none` listen on other addresses than this machine's own: whoever reaches \
             them is everybody.",
        ),
        tokens: s.map("tokens", TOKENS, |_, s| {
            s.required_secret(
                "sha256",
                "64 hexadecimal digits",
                |text| match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    true => Ok(()),
                    false => Err(Reason::Borrowed("is no SHA-256")),
                },
                "The SHA-256 of the token, which itself is written nowhere.",
            )
            // One that is at fault is a token all the same.
            .or_else(|| Some(Secret::new("")))
        }),
    }
}
