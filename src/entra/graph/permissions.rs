//! Application permissions of Microsoft Graph that lookups need.

/// One need: the least permission, and what covers it. Source: the permissions table of each request in the Graph
/// reference.
const GROUPS: (&str, &[&str]) = (
    "GroupMember.Read.All",
    &[
        "GroupMember.ReadWrite.All",
        "Group.Read.All",
        "Group.ReadWrite.All",
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    ],
);
const USERS: (&str, &[&str]) = (
    "User.Read.All",
    &[
        "User.ReadBasic.All",
        "User.ReadWrite.All",
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    ],
);
const PRINCIPALS: (&str, &[&str]) = (
    "Application.Read.All",
    &[
        "Application.ReadWrite.All",
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    ],
);

/// What `held` lacks for looking up groups of people, of applications, or of both.
#[must_use]
pub fn missing(held: &[String], people: bool, applications: bool) -> Vec<&'static str> {
    let has = |name: &str| held.iter().any(|held| held == name);
    [
        (people, USERS),
        (applications, PRINCIPALS),
        (people || applications, GROUPS),
    ]
    .into_iter()
    .filter(|(needed, (least, others))| {
        *needed && !has(least) && !others.iter().any(|other| has(other))
    })
    .map(|(_, (least, _))| least)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_permission_covers_a_narrow_one() {
        let held = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert_eq!(missing(&held(&["Directory.Read.All"]), true, true), [""; 0]);
        assert_eq!(
            missing(&held(&[]), true, true),
            [
                "User.Read.All",
                "Application.Read.All",
                "GroupMember.Read.All"
            ]
        );
        assert_eq!(
            missing(&held(&["User.Read.All", "Group.Read.All"]), true, true),
            ["Application.Read.All"]
        );
        assert_eq!(
            missing(&held(&["User.Read.All"]), true, false),
            ["GroupMember.Read.All"]
        );
        assert_eq!(missing(&held(&[]), false, false), [""; 0]);
    }
}
