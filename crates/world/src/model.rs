//! The model: a few sets beside the whole machinery, moved by what people were told was done. It predicts whose yes
//! still lives, who is stopped, and which studies can never be released.

use crate::day::Person;
use crate::watch::{Part, Watch};
use std::collections::{BTreeMap, BTreeSet};

/// What people were told, added up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) stopped: BTreeSet<usize>,
    pub(crate) paused: BTreeSet<usize>,
    /// Votes by study and member: a live yes or not.
    pub(crate) yes: BTreeMap<(usize, usize), bool>,
    /// Who took back a yes, or said no.
    pub(crate) against: BTreeSet<(usize, usize)>,
    /// Parts that a study's release needs, and that their members have ruled out by what they were told is done.
    pub(crate) barred: BTreeSet<(usize, usize, Part)>,
}

impl Model {
    /// A command was answered with yes.
    pub(crate) fn done(&mut self, m: usize, want: Person, watch: &Watch) {
        let all = [Part::Contribution, Part::Opening, Part::Output];
        match want {
            Person::Ask(_) => {}
            Person::Vote { study, yes } => {
                self.yes.insert((study, m), yes);
                if !yes {
                    self.against.insert((study, m));
                    self.barred.insert((study, m, Part::Contribution));
                }
            }
            Person::Revoke(study) => {
                self.yes.insert((study, m), false);
                self.against.insert((study, m));
                self.bar(m, &[study], &[Part::Contribution], watch);
            }
            Person::Stop => {
                self.stopped.insert(m);
                self.bar(m, &[0, 1], &all, watch);
            }
            Person::Resume => {
                self.stopped.remove(&m);
                self.unbar(m);
            }
            Person::Pause => {
                self.paused.insert(m);
                self.bar(m, &[0, 1], &[Part::Contribution], watch);
            }
            Person::Unpause => {
                self.paused.remove(&m);
                self.unbar(m);
            }
        }
    }

    fn bar(&mut self, m: usize, studies: &[usize], parts: &[Part], watch: &Watch) {
        for study in studies {
            for part in parts {
                if !watch.has_played(*study, m, *part) {
                    self.barred.insert((*study, m, *part));
                }
            }
        }
    }

    /// Takes back what a stop or a pause ruled out; what a no ruled out stays so.
    fn unbar(&mut self, m: usize) {
        let (stopped, paused) = (self.stopped.contains(&m), self.paused.contains(&m));
        let against = self.against.clone();
        self.barred.retain(|(study, who, part)| {
            let still =
                stopped || (*part == Part::Contribution && (paused || against.contains(&(*study, m))));
            *who != m || still
        });
    }
}
