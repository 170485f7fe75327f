//! `object`: what a role may do with an object store, as subjects.
//!
//! Owns: the minimal sets of subjects that official clients need. Must never: pretend that one object could be granted
//! without the others: chunks have random names.
//!
//! # What is granted
//!
//! `b` is the store, `P` is `$JS.API` (`$JS.<domain>.API` with `domain`).
//!
//! | written | subjects to publish to |
//! |---|---|
//! | `read: true` | `P.INFO`, `P.STREAM.INFO.OBJ_b`, `P.DIRECT.GET.OBJ_b`, `P.DIRECT.GET.OBJ_b.$O.b.>`, `P.STREAM.MSG.GET.OBJ_b`, `P.CONSUMER.CREATE.OBJ_b` with and without name and filter, `P.CONSUMER.INFO.OBJ_b.*`, `P.CONSUMER.DELETE.OBJ_b.*`, flow control |
//! | `write: true` | what `read` grants, `$O.b.C.>`, `$O.b.M.>`, and `P.STREAM.PURGE.OBJ_b` (clients purge the chunks of what they replace) |

use super::compile::is_resource_name;
use super::document::ObjectGrant;
use super::kv::watchers;
use super::rights::EntryKind;
use super::role::RoleWriter;
use super::streams::Api;
use super::template::Template;

/// Writes the grants of one store.
pub(super) fn write(writer: &mut RoleWriter<'_>, bucket: &str, grant: &ObjectGrant) {
    if !is_resource_name(bucket) {
        writer.mistake("an object store's name is made of letters, figures, `-` and `_`");
        return;
    }
    let Some(api) = Api::new(writer, grant.domain.as_deref()) else {
        return;
    };
    if !grant.read && !grant.write {
        writer.mistake("the object store grants nothing; write read: true or write: true");
        return;
    }
    let key = if grant.write { "write" } else { "read" };
    writer.at(key, |writer| {
        let stream = format!("OBJ_{bucket}");
        api.allow(writer, "INFO");
        for subject in [
            "STREAM.INFO",
            "DIRECT.GET",
            "STREAM.MSG.GET",
            "CONSUMER.CREATE",
        ] {
            api.allow(writer, &format!("{subject}.{stream}"));
        }
        api.allow(writer, &format!("DIRECT.GET.{stream}.$O.{bucket}.>"));
        api.allow(writer, &format!("CONSUMER.CREATE.{stream}.*"));
        api.allow(writer, &format!("CONSUMER.CREATE.{stream}.*.$O.{bucket}.>"));
        watchers(writer, &api, &stream);
        if !grant.write {
            return;
        }
        api.allow(writer, &format!("STREAM.PURGE.{stream}"));
        for part in ["C", "M"] {
            let subject = Template::fixed(&format!("$O.{bucket}.{part}.>"));
            writer.grant(EntryKind::Publish, subject, false);
        }
    });
}
