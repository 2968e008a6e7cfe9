//! Room for connections of beacons: so many in all, few from one address, so that no pod takes the place of the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections at once.
const IN_ALL: usize = 512;
/// Connections at once from one address.
const FROM_ONE: usize = 4;

/// Who is connected.
#[derive(Debug, Default)]
pub struct Room {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    source: IpAddr,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; `None` where there is none left.
    pub fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= IN_ALL {
            return None;
        }
        let own = taken.entry(source).or_default();
        if *own >= FROM_ONE {
            return None;
        }
        *own += 1;
        Some(Place { room: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        if let Some(own) = taken.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: usize) -> IpAddr {
        IpAddr::from([10, 0, u8::try_from(number / 256).unwrap(), u8::try_from(number % 256).unwrap()])
    }

    #[test]
    fn one_source_has_few_places_and_gets_them_back() {
        let room = Arc::new(Room::default());
        let mut places: Vec<_> = (0..FROM_ONE).map(|_| room.enter(source(1)).unwrap()).collect();
        assert!(room.enter(source(1)).is_none());
        assert!(room.enter(source(2)).is_some(), "others are not in its way");
        places.pop();
        assert!(room.enter(source(1)).is_some());
        drop(places);
        assert!(room.lock().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn all_together_have_a_bound() {
        let room = Arc::new(Room::default());
        let places: Vec<_> = (0..IN_ALL).map(|number| room.enter(source(number)).unwrap()).collect();
        assert!(room.enter(source(IN_ALL)).is_none());
        drop(places);
        assert!(room.enter(source(IN_ALL)).is_some());
    }
}
