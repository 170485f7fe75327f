//! The API as clients see it: what `natsentry token` asks for.

use super::super::document::Document;
use super::trust;

/// Where tokens for this listener come from.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Login host of the cloud.
    pub authority: Box<str>,
    /// Tenants whose tokens are accepted.
    pub tenants: Vec<Box<str>>,
    audiences: Vec<Box<str>>,
}

impl ApiConfig {
    /// The audience to ask for: an App ID URI if there is one, since every service takes it.
    pub fn audience(&self) -> &str {
        let uri = self
            .audiences
            .iter()
            .find(|audience| audience.contains("://"));
        uri.or(self.audiences.first())
            .map_or("", |audience| audience)
    }
}

pub(super) fn resolve(document: &Document) -> Option<ApiConfig> {
    let entra = document.entra.as_ref()?;
    let boxed = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    Some(ApiConfig {
        authority: trust::cloud(&entra.cloud).authority,
        tenants: boxed(&entra.tenants),
        audiences: boxed(&entra.audiences),
    })
}
