//! What a token is asked for, in the spelling of each service.

use std::fmt;

/// An API that a token is asked for: `api://nats-prod`, `https://graph.microsoft.com` or an application id.
///
/// The v2.0 token endpoint takes a scope (`<resource>/.default`, everything that was granted), the metadata services
/// take the resource alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Box<str>);

/// What stands behind the resource in a scope.
const DEFAULT: &str = "/.default";

impl Scope {
    /// From a resource or a scope: `api://nats-prod` and `api://nats-prod/.default` are the same.
    pub fn new(text: &str) -> Self {
        Self(text.strip_suffix(DEFAULT).unwrap_or(text).into())
    }

    /// The resource, as metadata services want it.
    pub fn resource(&self) -> &str {
        &self.0
    }

    /// The scope, as the v2.0 token endpoint wants it. A resource that ends in a slash keeps it: Entra then gives the
    /// audience a slash too.
    pub fn scope(&self) -> String {
        format!("{}{DEFAULT}", self.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_and_its_resource_are_one() {
        assert_eq!(Scope::new("api://x"), Scope::new("api://x/.default"));
        assert_eq!(Scope::new("api://x/.default").resource(), "api://x");
        assert_eq!(Scope::new("api://x").scope(), "api://x/.default");
        assert_eq!(
            Scope::new("https://vault.azure.net/").scope(),
            "https://vault.azure.net//.default"
        );
    }
}
