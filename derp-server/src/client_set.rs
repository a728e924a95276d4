//! Several connections with one key, and which of them packets go to. Pure.
//!
//! The rule is the reference's "last writer is active" (`derp/derpserver/derpserver.go`): the
//! newest connection is active until another one of the set says something.

/// The connections of one key, by any identity that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientSet<Id> {
    /// In the order in which they came. Bounded by the registry, as the connections of a key are.
    members: Vec<Id>,
    /// The same connections, in the order in which they last spoke; the last one is active. Who spoke
    /// when before that would decide nothing.
    speakers: Vec<Id>,
}

impl<Id: Copy + PartialEq> ClientSet<Id> {
    /// The set of an `older` connection and a `newer` one, which is active.
    pub(crate) fn new(older: Id, newer: Id) -> Self {
        Self {
            members: vec![older, newer],
            speakers: vec![older, newer],
        }
    }

    /// The connection that packets go to.
    pub(crate) fn active(&self) -> Option<Id> {
        self.speakers.last().copied()
    }

    /// A connection joins, and is active.
    pub(crate) fn add(&mut self, id: Id) {
        self.members.push(id);
        self.speakers.push(id);
    }

    /// A member said something, and is active.
    pub(crate) fn note_activity(&mut self, id: Id) {
        if self.active() == Some(id) || !self.members.contains(&id) {
            return;
        }
        self.speakers.retain(|speaker| *speaker != id);
        self.speakers.push(id);
    }

    /// A connection leaves. Whoever spoke before it is active.
    pub(crate) fn remove(&mut self, id: Id) {
        self.members.retain(|member| *member != id);
        self.speakers.retain(|speaker| *speaker != id);
    }

    /// The members that are not active, the oldest first: so they go where there are too many.
    pub(crate) fn standbys(&self) -> impl Iterator<Item = Id> {
        self.members
            .iter()
            .copied()
            .filter(|member| self.active() != Some(*member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_newest_is_active_until_another_speaks() {
        let mut set = ClientSet::new(1, 2);
        assert_eq!(set.active(), Some(2));
        set.note_activity(1);
        assert_eq!(set.active(), Some(1));
        set.note_activity(2);
        assert_eq!(set.active(), Some(2));
        set.remove(2);
        assert_eq!((set.active(), &set.members[..]), (Some(1), &[1][..]));
    }

    #[test]
    fn when_the_active_one_leaves_the_last_speaker_before_it_takes_over() {
        let mut set = ClientSet::new(1, 2);
        set.add(3);
        set.note_activity(1);
        set.note_activity(3);
        set.remove(3);
        assert_eq!(set.active(), Some(1));
        set.remove(1);
        assert_eq!(set.active(), Some(2));
    }

    #[test]
    fn strangers_do_not_become_active() {
        let mut set = ClientSet::new(1, 2);
        set.note_activity(7);
        assert_eq!(set.active(), Some(2));
    }

    #[test]
    fn those_that_are_not_active_go_by_age() {
        let mut set = ClientSet::new(1, 2);
        set.add(3);
        assert_eq!(set.standbys().collect::<Vec<_>>(), [1, 2]);
        set.note_activity(1);
        assert_eq!(set.standbys().collect::<Vec<_>>(), [2, 3]);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Add,
        Speak(usize),
        Remove(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            Just(Op::Add),
            (0..9_usize).prop_map(Op::Speak),
            (0..9_usize).prop_map(Op::Remove),
        ]
    }

    proptest! {
        /// Against a model that remembers everything: all speakers, for ever.
        #[test]
        fn the_set_behaves_like_its_model(ops in prop::collection::vec(op(), 0..60)) {
            let (mut set, mut next) = (ClientSet::new(0, 1), 2);
            let (mut members, mut spoken) = (vec![0, 1], vec![0, 1]);
            for op in ops {
                match op {
                    Op::Add => {
                        set.add(next);
                        members.push(next);
                        spoken.push(next);
                        next += 1;
                    }
                    Op::Speak(at) => {
                        let id = members[at % members.len()];
                        set.note_activity(id);
                        spoken.push(id);
                    }
                    Op::Remove(_) if members.len() == 1 => {}
                    Op::Remove(at) => {
                        let id = members.remove(at % members.len());
                        set.remove(id);
                        spoken.retain(|speaker| *speaker != id);
                    }
                }
                prop_assert_eq!(&set.members, &members);
                prop_assert_eq!(set.active(), spoken.last().copied());
                prop_assert_eq!(set.speakers.len(), members.len());
            }
        }
    }
}
