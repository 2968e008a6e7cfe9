//! The objects of one kind, by namespace and name, and by the Function that they are labelled with.
//!
//! Of the objects of thousands of idle Functions next to none is ever read: those at rest are kept packed, and read anew by whoever asks for
//! one. What always holds: what is asked for is the newest that was put there; a list that comes in takes the place of what there was at once,
//! when it is whole.

use kube::Resource;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;
use pilotlight_crds::names;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::packed::Packed;

/// What objects of a kind have to be capable of.
pub trait Kept: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Kept for K {}

/// A namespace and a name in it. No namespace has a slash in its name.
type Key = Box<str>;

fn key(namespace: &str, name: &str) -> Key {
    format!("{namespace}/{name}").into_boxed_str()
}

fn split(key: &str) -> Option<(String, String)> {
    key.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
}

/// Where an object is, and the Function that it is labelled with.
fn keys_of(metadata: &ObjectMeta) -> Option<(Key, Option<Key>)> {
    let namespace = metadata.namespace.as_deref()?;
    let labelled = metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_FUNCTION));
    Some((key(namespace, metadata.name.as_deref()?), labelled.map(|function| key(namespace, function))))
}

enum Form<K> {
    Whole(Arc<K>),
    Packed(Packed<K>),
}

struct Held<K> {
    uid: Option<Box<str>>,
    version: Option<Box<str>>,
    function: Option<Key>,
    form: Form<K>,
}

struct Objects<K> {
    by_name: HashMap<Key, Held<K>>,
    of_function: HashMap<Key, Vec<Key>>,
    /// Whom changes were about that nobody has asked for yet, where anybody ever does.
    touched: Option<HashSet<Key>>,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), of_function: HashMap::new(), touched: None }
    }
}

impl<K> Objects<K> {
    /// Notes a change of the object of this name: it is about the Function that it is labelled with, or about itself.
    fn touch(&mut self, name: &Key, function: Option<&Key>) {
        if let Some(touched) = &mut self.touched {
            touched.insert(function.unwrap_or(name).clone());
        }
    }

    /// Notes a change of all.
    fn touch_all(&mut self) {
        let about = self.by_name.iter().map(|(name, held)| held.function.as_ref().unwrap_or(name).clone());
        if let Some(touched) = &mut self.touched {
            touched.extend(about);
        }
    }
}

impl<K: Kept> Objects<K> {
    fn put(&mut self, object: K, rests: fn(&K) -> bool) {
        let Some((name, function)) = keys_of(object.meta()) else { return };
        self.remove(&name);
        self.touch(&name, function.as_ref());
        if let Some(function) = &function {
            self.of_function.entry(function.clone()).or_default().push(name.clone());
        }
        let version = object.meta().resource_version.as_deref().map(Box::from);
        let uid = object.meta().uid.as_deref().map(Box::from);
        let packed = rests(&object).then(|| Packed::new(&object).ok()).flatten();
        let form = packed.map_or_else(|| Form::Whole(Arc::new(object)), Form::Packed);
        self.by_name.insert(name, Held { uid, version, function, form });
    }

    fn remove(&mut self, name: &Key) {
        let Some(held) = self.by_name.remove(name) else { return };
        self.touch(name, held.function.as_ref());
        let Some(function) = held.function else { return };
        if let Some(names) = self.of_function.get_mut(&function) {
            names.retain(|known| known != name);
            if names.is_empty() {
                self.of_function.remove(&function);
            }
        }
    }

    fn get(&self, name: &str) -> Option<Arc<K>> {
        match &self.by_name.get(name)?.form {
            Form::Whole(object) => Some(Arc::clone(object)),
            Form::Packed(packed) => packed.open().map(Arc::new),
        }
    }
}

/// Cheap to clone: all see the same.
pub struct Shelf<K> {
    objects: Arc<RwLock<Objects<K>>>,
    listed: watch::Receiver<bool>,
}

impl<K> Clone for Shelf<K> {
    fn clone(&self) -> Self {
        Self { objects: Arc::clone(&self.objects), listed: self.listed.clone() }
    }
}

impl<K: Kept> Shelf<K> {
    /// One that is empty, and what fills it. `rests` tells which objects are packed.
    pub fn new(rests: fn(&K) -> bool) -> (Self, Filler<K>) {
        let (told, listed) = watch::channel(false);
        let shelf = Self { objects: Arc::default(), listed };
        let filler = Filler { objects: Arc::clone(&shelf.objects), fresh: Objects::default(), rests, told };
        (shelf, filler)
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read().get(&key(namespace, name))
    }

    /// Whether there is an object of this name. What follows costs no reading either.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        self.read().by_name.contains_key(&key(namespace, name))
    }

    /// The resource version of the object of this name.
    pub fn version(&self, namespace: &str, name: &str) -> Option<String> {
        self.read().by_name.get(&key(namespace, name))?.version.as_deref().map(str::to_owned)
    }

    /// Namespaces and names of all.
    pub fn names(&self) -> Vec<(String, String)> {
        self.read().by_name.keys().filter_map(|key| split(key)).collect()
    }

    /// The uids of all.
    pub fn uids(&self) -> HashSet<String> {
        self.read().by_name.values().filter_map(|held| held.uid.as_deref().map(str::to_owned)).collect()
    }

    /// Those that are labelled with this Function's name, by name. Whether the Function owns them is another question.
    pub fn of(&self, namespace: &str, function: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let mut names: Vec<&Key> = objects.of_function.get(&key(namespace, function)).into_iter().flatten().collect();
        names.sort_unstable();
        names.into_iter().filter_map(|name| objects.get(name)).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<K>> {
        let objects = self.read();
        objects.by_name.keys().filter_map(|name| objects.get(name)).collect()
    }

    /// The Functions, by namespace and name, that changes were about since this was asked for last, deletions included: those that the objects are
    /// labelled with or, where they have no such label, themselves. At first all. One may ask.
    pub fn touched(&self) -> HashSet<(String, String)> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if objects.touched.is_none() {
            objects.touched = Some(HashSet::new());
            objects.touch_all();
        }
        let touched = objects.touched.as_mut().map(std::mem::take).unwrap_or_default();
        touched.iter().filter_map(|key| split(key)).collect()
    }

    /// Waits until all were listed once. Errors when whatever fills it has ended, which only a bug can cause.
    pub async fn listed(&self) -> Result<(), watch::error::RecvError> {
        self.listed.clone().wait_for(|listed| *listed).await.map(drop)
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills a [`Shelf`] by what a watch tells.
pub struct Filler<K> {
    objects: Arc<RwLock<Objects<K>>>,
    /// A list that is not whole yet.
    fresh: Objects<K>,
    rests: fn(&K) -> bool,
    told: watch::Sender<bool>,
}

impl<K: Kept> Filler<K> {
    /// The object as it is known so far.
    pub fn known(&self, object: &K) -> Option<Arc<K>> {
        let (name, _) = keys_of(object.meta())?;
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(&name)
    }

    /// Takes an event. Returns the Functions, by namespace and name, that lost an object to a list which does not have it any more.
    pub fn take(&mut self, event: Event<K>) -> HashSet<(String, String)> {
        let lock = || self.objects.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.fresh = Objects::default(),
            Event::InitApply(object) => self.fresh.put(object, self.rests),
            Event::InitDone => {
                let before = {
                    let mut objects = lock();
                    objects.touch_all();
                    let before = std::mem::replace(&mut *objects, std::mem::take(&mut self.fresh));
                    objects.touched.clone_from(&before.touched);
                    objects.touch_all();
                    before
                };
                self.told.send_replace(true);
                return self.lost(&before);
            }
            Event::Apply(object) => lock().put(object, self.rests),
            Event::Delete(object) => {
                if let Some((name, _)) = keys_of(object.meta()) {
                    lock().remove(&name);
                }
            }
        }
        HashSet::new()
    }

    fn lost(&self, before: &Objects<K>) -> HashSet<(String, String)> {
        let now = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let gone = before.by_name.iter().filter(|(name, _)| !now.by_name.contains_key(*name));
        gone.filter_map(|(_, held)| split(held.function.as_deref()?)).collect()
    }
}

#[cfg(test)]
mod tests;
