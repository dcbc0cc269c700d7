//! Places for calls under way: few for all members together, fewer for each, so that one that begins many calls and
//! ends none keeps nobody else out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Calls under way at once, of all members.
const ALL: usize = 64;
/// And of one.
const EACH: usize = 8;

/// The places of an endpoint.
pub(super) struct Places {
    all: Semaphore,
    /// Callers are members, so the map stays small.
    each: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

/// A place that was taken; free again when it is dropped.
pub(super) struct Place<'a> {
    _all: SemaphorePermit<'a>,
    _own: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new() -> Places {
        Places { all: Semaphore::new(ALL), each: Mutex::default() }
    }

    /// Takes one for a call of this member; nothing if it has all that one may have, or none is left.
    pub(super) fn take(&self, party: &str) -> Option<Place<'_>> {
        let own = {
            let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
            let own = each.entry(party.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(EACH)));
            Arc::clone(own)
        };
        let own = own.try_acquire_owned().ok()?;
        Some(Place { _all: self.all.try_acquire().ok()?, _own: own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_ends_none_of_its_calls_leaves_places_for_the_others() {
        let places = Places::new();
        let taken: Vec<_> = std::iter::from_fn(|| places.take("liar")).take(2 * ALL).collect();
        assert_eq!(taken.len(), EACH);
        assert!(places.take("gb").is_some() && places.take("it").is_some());
        drop(taken);
        assert!(places.take("liar").is_some(), "and is answered again once they have ended");
        let many: Vec<_> = (0..ALL * 2).filter_map(|n| places.take(&format!("m{n}"))).collect();
        assert_eq!(many.len(), ALL);
        assert!(places.take("gb").is_none());
    }
}
