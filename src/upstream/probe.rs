//! Finding out which eras an upstream speaks: `server/discover`, then `initialize`.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use serde_json::value::RawValue;

use super::era::{EraPolicy, Eras};
use super::error::Error;
use super::session::Opened;
use super::streamable::{PROTOCOL_VERSION, Streamable};
use crate::protocol::jsonrpc::{self, Id, Message, codes};
use crate::protocol::version::{LegacyVersion, MODERN};

impl Streamable {
    /// Which eras it speaks: as configured, as remembered, or found out now.
    ///
    /// # Errors
    /// If it can't be asked.
    pub async fn eras(&self) -> Result<Eras, Error> {
        let modern = || vec![MODERN.to_owned()];
        match self.inner.config.era {
            EraPolicy::Legacy => return Ok(Eras { legacy: true, modern: Vec::new() }),
            EraPolicy::Modern => return Ok(Eras { legacy: false, modern: modern() }),
            EraPolicy::Both => return Ok(Eras { legacy: true, modern: modern() }),
            EraPolicy::FindOut => {}
        }
        if let Some(eras) = self.inner.eras.get() {
            return Ok(eras);
        }
        let probed = tokio::time::timeout(self.inner.config.timeout, async {
            let _one_at_a_time = self.inner.eras.probing.lock().await;
            if let Some(eras) = self.inner.eras.get() {
                return Ok(eras);
            }
            let eras = self.probe().await?;
            self.inner.eras.set(eras.clone());
            Ok(eras)
        });
        probed.await.map_err(|_| self.late())?
    }

    async fn probe(&self) -> Result<Eras, Error> {
        let discovered = match self.discover().await {
            Ok(versions) => versions,
            Err(unreachable @ Error::Unreachable { .. }) => return Err(unreachable),
            Err(_) => Vec::new(),
        };
        let (legacy, modern): (Vec<_>, Vec<_>) =
            discovered.into_iter().partition(|version| LegacyVersion::parse(version).is_some());
        if !modern.is_empty() && !legacy.is_empty() {
            return Ok(Eras { legacy: true, modern });
        }
        let legacy = match self.open(probe_initialize(), 0, &HeaderMap::new()).await {
            Ok(Opened { handle: Some(handle), .. }) => {
                // Best effort: it was only asked whether it would.
                let _ = self.close(&handle).await;
                true
            }
            Ok(Opened { handle: None, .. }) => false,
            Err(unreachable @ Error::Unreachable { .. }) => return Err(unreachable),
            Err(_) => false,
        };
        if legacy || !modern.is_empty() {
            Ok(Eras { legacy, modern })
        } else {
            Err(self.invalid("it answers neither server/discover nor initialize".into()))
        }
    }

    /// The versions that `server/discover` or its refusal names.
    async fn discover(&self) -> Result<Vec<String>, Error> {
        let id = Id::string("holdfast-discover");
        let meta = format!(
            r#"{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientInfo":{{"name":"holdfast","version":"{}"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}"#,
            env!("CARGO_PKG_VERSION")
        );
        let mut headers = HeaderMap::new();
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(MODERN));
        headers.insert("mcp-method", HeaderValue::from_static("server/discover"));
        let raw = jsonrpc::request(&id, "server/discover", Some(&meta));
        let mut answers = match self.call(None, raw, &headers).await {
            Ok(answers) => answers,
            Err(Error::Refused { body, .. }) => {
                return Ok(Message::parse(body)
                    .ok()
                    .and_then(|message| supported_versions(&message))
                    .unwrap_or_default());
            }
            Err(err) => return Err(err),
        };
        while let Some(answer) = answers.next().await? {
            if answer.message.is_response() {
                return Ok(supported_versions(&answer.message).unwrap_or_default());
            }
        }
        Ok(Vec::new())
    }

    pub(super) fn remember_legacy(&self) {
        if let Some(mut eras) = self.inner.eras.get()
            && !eras.legacy
        {
            eras.legacy = true;
            self.inner.eras.set(eras);
        }
    }
}

fn probe_initialize() -> Bytes {
    let params = format!(
        r#"{{"protocolVersion":"{}","capabilities":{{}},"clientInfo":{{"name":"holdfast","version":"{}"}}}}"#,
        LegacyVersion::LATEST.as_str(),
        env!("CARGO_PKG_VERSION")
    );
    jsonrpc::request(&Id::string("holdfast-initialize"), "initialize", Some(&params))
}

/// `supportedVersions` of a discover result, or `data.supported` of the refusal of our version.
fn supported_versions(message: &Message) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered {
        supported_versions: Vec<String>,
    }
    #[derive(serde::Deserialize)]
    struct Unsupported<'a> {
        code: i64,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    #[derive(serde::Deserialize)]
    struct Supported {
        supported: Vec<String>,
    }
    if let Some(result) = message.result() {
        return serde_json::from_str::<Discovered>(result)
            .ok()
            .map(|discovered| discovered.supported_versions);
    }
    let unsupported = serde_json::from_str::<Unsupported<'_>>(message.error()?).ok()?;
    if unsupported.code != codes::UNSUPPORTED_VERSION {
        return None;
    }
    serde_json::from_str::<Supported>(unsupported.data?.get()).ok().map(|data| data.supported)
}
