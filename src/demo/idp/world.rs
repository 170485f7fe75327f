//! The directory as it changes: accounts, groups, assignments, and what a replica of it knows.
//!
//! Owns: the state behind Graph and the log of changes behind its delta queries. Must never: decide what an answer
//! looks like.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::people::{Application, Directory, Person};
use crate::time::Timestamp;

/// What Graph's answers are read from. Microsoft's directory is replicated: an answer may be older than the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replica {
    /// The directory as it is.
    #[default]
    Current,
    /// The directory as it was so long ago.
    Behind(Duration),
    /// The directory as it was when this was set; what comes after is not seen until the replica is current again.
    Frozen,
}

/// A person's account.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) display_name: String,
    pub(super) user_name: String,
    pub(super) guest: bool,
    pub(super) enabled: bool,
    pub(super) sessions_valid_from: Timestamp,
}

/// A service principal.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    pub(super) name: String,
    pub(super) app_id: String,
    pub(super) managed: bool,
    pub(super) enabled: bool,
}

/// A security group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) display_name: String,
    pub(super) members: BTreeSet<String>,
}

/// An app role of the API, given to somebody.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) id: String,
    pub(super) principal: String,
    pub(super) role: String,
    pub(super) since: Timestamp,
}

/// Kinds of objects that have a delta query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collection {
    Users,
    Principals,
    Groups,
}

/// One thing that happened to one object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) of: Collection,
    pub(super) id: String,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A property has another value.
    Property(&'static str),
    /// Gone, and can be brought back: Graph says `changed`.
    Deleted,
    /// Gone for good: Graph says `deleted`.
    Purged,
    /// A direct member came (true) or went.
    Member(String, bool),
}

/// The whole directory at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) users: BTreeMap<String, User>,
    pub(super) principals: BTreeMap<String, Principal>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) assignments: Vec<Assignment>,
    pub(super) log: Vec<Change>,
}

impl State {
    fn of(directory: &Directory, now: Timestamp) -> Self {
        let mut state = Self::default();
        for person in &directory.people {
            state.add_person(person, now);
        }
        for application in &directory.applications {
            state.add_application(application, now);
        }
        state.principals.insert(
            directory.api_principal(),
            Principal {
                name: "nats".into(),
                app_id: directory.api.clone(),
                managed: false,
                enabled: true,
            },
        );
        state.log.clear();
        state
    }

    pub(super) fn add_person(&mut self, person: &Person, now: Timestamp) {
        self.users.insert(
            person.oid.clone(),
            User {
                name: person.name.clone(),
                display_name: person.display_name.clone(),
                user_name: person.user_name.clone(),
                guest: person.guest,
                enabled: true,
                // An account that was never revoked has the day of its making.
                sessions_valid_from: now.minus(Duration::from_secs(90 * 86_400)),
            },
        );
        self.note(
            Collection::Users,
            &person.oid,
            What::Property("accountEnabled"),
        );
        self.enrol(&person.oid, &person.groups, &person.roles, now);
    }

    pub(super) fn add_application(&mut self, application: &Application, now: Timestamp) {
        self.principals.insert(
            application.oid.clone(),
            Principal {
                name: application.name.clone(),
                app_id: application.client_id.clone(),
                managed: application.mirid.is_some(),
                enabled: true,
            },
        );
        self.note(
            Collection::Principals,
            &application.oid,
            What::Property("accountEnabled"),
        );
        self.enrol(
            &application.oid,
            &application.groups,
            &application.roles,
            now,
        );
    }

    fn enrol(&mut self, oid: &str, groups: &[String], roles: &[String], now: Timestamp) {
        for group in groups {
            self.join(group, oid);
        }
        for role in roles {
            self.assign(oid, role, now);
        }
    }

    pub(super) fn group(&mut self, id: &str) -> &mut Group {
        self.groups.entry(id.to_owned()).or_insert_with(|| Group {
            display_name: format!("sg-{}", id.get(..8).unwrap_or(id)),
            members: BTreeSet::new(),
        })
    }

    pub(super) fn join(&mut self, group: &str, member: &str) {
        if self.group(group).members.insert(member.to_owned()) {
            self.note(
                Collection::Groups,
                group,
                What::Member(member.to_owned(), true),
            );
        }
    }

    pub(super) fn leave(&mut self, group: &str, member: &str) {
        if self.group(group).members.remove(member) {
            self.note(
                Collection::Groups,
                group,
                What::Member(member.to_owned(), false),
            );
        }
    }

    pub(super) fn assign(&mut self, principal: &str, role: &str, now: Timestamp) {
        self.unassign(principal, role);
        self.assignments.push(Assignment {
            id: guid_of(&format!("assignment/{principal}/{role}")),
            principal: principal.to_owned(),
            role: role.to_owned(),
            since: now,
        });
    }

    pub(super) fn unassign(&mut self, principal: &str, role: &str) {
        self.assignments
            .retain(|given| given.principal != principal || given.role != role);
    }

    pub(super) fn note(&mut self, of: Collection, id: &str, what: What) {
        self.log.push(Change {
            of,
            id: id.to_owned(),
            what,
        });
    }

    /// Removes an object from its collection and from every group.
    pub(super) fn remove(&mut self, id: &str, what: What) {
        let groups: Vec<String> = self.groups.keys().cloned().collect();
        for group in groups {
            if let Some(group) = self.groups.get_mut(&group) {
                group.members.remove(id);
            }
        }
        self.assignments.retain(|given| given.principal != id);
        let of = if self.users.remove(id).is_some() {
            Collection::Users
        } else if self.principals.remove(id).is_some() {
            Collection::Principals
        } else {
            self.groups.remove(id);
            Collection::Groups
        };
        self.note(of, id, what);
    }

    /// Object id of a short name, or the id itself.
    pub(super) fn id_of(&self, who: &str) -> Option<String> {
        let user = self
            .users
            .iter()
            .find(|(id, user)| user.name == who || *id == who);
        let principal = self
            .principals
            .iter()
            .find(|(id, one)| one.name == who || *id == who);
        let group = self
            .groups
            .iter()
            .find(|(id, one)| one.display_name == who || *id == who);
        user.map(|(id, _)| id)
            .or(principal.map(|(id, _)| id))
            .or(group.map(|(id, _)| id))
            .cloned()
    }

    /// Groups of a member, with the groups of its groups.
    pub(super) fn groups_of(&self, member: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut next = VecDeque::from([member.to_owned()]);
        while let Some(one) = next.pop_front() {
            for (id, group) in &self.groups {
                if group.members.contains(&one) && found.insert(id.clone()) {
                    next.push_back(id.clone());
                }
            }
        }
        found
    }

    fn roles_of(&self, principal: &str) -> Vec<String> {
        let theirs = self
            .assignments
            .iter()
            .filter(|given| given.principal == principal);
        theirs.map(|given| given.role.clone()).collect()
    }
}

/// The directory with its past.
#[derive(Debug)]
pub(super) struct World {
    history: VecDeque<(Timestamp, Arc<State>)>,
    frozen: Option<Arc<State>>,
    replica: Replica,
    /// What tokens are minted from.
    directory: Arc<Directory>,
    /// Delta links from before this place in the log have expired.
    pub(super) links_since: usize,
}

/// How many past states a replica may lag behind.
const HISTORY: usize = 4096;

impl World {
    pub(super) fn new(directory: &Directory, now: Timestamp) -> Self {
        let state = Arc::new(State::of(directory, now));
        Self {
            // The company is older than this process: a replica that lags knows everybody of the beginning.
            history: VecDeque::from([(Timestamp::from_millis(0), state)]),
            frozen: None,
            replica: Replica::Current,
            directory: Arc::new(directory.clone()),
            links_since: 0,
        }
    }

    pub(super) fn current(&self) -> Arc<State> {
        self.history
            .back()
            .map(|(_, state)| Arc::clone(state))
            .unwrap_or_default()
    }

    /// What Graph would read now.
    pub(super) fn seen(&self, now: Timestamp) -> Arc<State> {
        match self.replica {
            Replica::Current => self.current(),
            Replica::Frozen => self.frozen.clone().unwrap_or_else(|| self.current()),
            Replica::Behind(lag) => {
                let moment = now.minus(lag);
                let past = self
                    .history
                    .iter()
                    .rev()
                    .find(|(since, _)| *since <= moment);
                past.or(self.history.front())
                    .map(|(_, state)| Arc::clone(state))
                    .unwrap_or_default()
            }
        }
    }

    pub(super) fn set_replica(&mut self, replica: Replica) {
        self.frozen = (replica == Replica::Frozen).then(|| self.current());
        self.replica = replica;
    }

    pub(super) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Adds to the directory that tokens are minted from.
    pub(super) fn enlarge(&mut self, add: impl FnOnce(&mut Directory)) {
        add(Arc::make_mut(&mut self.directory));
    }

    pub(super) fn change<T>(&mut self, now: Timestamp, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.current().as_ref().clone();
        let result = change(&mut state);
        let directory = Arc::make_mut(&mut self.directory);
        for person in &mut directory.people {
            // Groups keep their order: tokens list them as the directory was written.
            let groups = state.groups_of(&person.oid);
            person.groups.retain(|group| groups.contains(group));
            let new: Vec<String> = groups
                .into_iter()
                .filter(|group| !person.groups.contains(group))
                .collect();
            person.groups.extend(new);
            person.roles = state.roles_of(&person.oid);
        }
        for application in &mut directory.applications {
            application.roles = state.roles_of(&application.oid);
        }
        self.history.push_back((now, Arc::new(state)));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        result
    }
}

/// An id in the shape of a GUID that is always the same for the same text.
pub(super) fn guid_of(text: &str) -> String {
    let digest = Sha256::digest(text);
    let hex: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World::new(&Directory::default(), Timestamp::from_secs(1_800_000_000))
    }

    #[test]
    fn groups_of_groups_count() {
        let mut world = world();
        let now = Timestamp::from_secs(1_800_000_001);
        let alice = world.current().id_of("alice").unwrap();
        world.change(now, |state| {
            let outer = guid_of("outer");
            state.join(&outer, "0d9ad1c3-1b8b-45d6-8f5a-7f2f0a63d1c4");
            // A circle must not hang anything.
            state.join("0d9ad1c3-1b8b-45d6-8f5a-7f2f0a63d1c4", &outer);
        });
        assert!(
            world
                .current()
                .groups_of(&alice)
                .contains(&guid_of("outer"))
        );
        let minted = world.directory();
        let person = minted
            .people
            .iter()
            .find(|person| person.name == "alice")
            .unwrap();
        assert_eq!(person.groups.len(), 2);
    }

    #[test]
    fn a_replica_lags_or_stands_still() {
        let mut world = world();
        let at = |secs: u64| Timestamp::from_secs(1_800_000_000 + secs);
        let new = |state: &mut State| {
            state.group("g");
        };
        world.change(at(10), new);
        world.set_replica(Replica::Behind(Duration::from_secs(5)));
        assert!(!world.seen(at(14)).groups.contains_key("g"));
        assert!(world.seen(at(15)).groups.contains_key("g"));
        world.set_replica(Replica::Frozen);
        world.change(at(20), |state| state.remove("g", What::Deleted));
        assert!(world.seen(at(99)).groups.contains_key("g"));
        world.set_replica(Replica::Current);
        assert!(!world.seen(at(99)).groups.contains_key("g"));
    }

    #[test]
    fn made_up_ids_are_canonical_guids() {
        assert!(crate::identity::is_guid(&guid_of("x")));
    }
}
