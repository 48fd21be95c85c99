//! A map that threads share: dashmap, or one lock around a map when loom's models are run. What is asked of either is
//! that each call is one step under the entry's lock.

#[cfg(not(loom))]
pub(crate) struct Map<V>(dashmap::DashMap<u64, V>);

#[cfg(not(loom))]
impl<V> Map<V> {
    pub(crate) fn new() -> Self {
        Self(dashmap::DashMap::new())
    }

    pub(crate) fn insert(&self, key: u64, value: V) {
        self.0.insert(key, value);
    }

    pub(crate) fn with<R>(&self, key: u64, act: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.0.get_mut(&key).map(|mut value| act(&mut value))
    }

    pub(crate) fn remove_if(&self, key: u64, wanted: impl FnOnce(&V) -> bool) {
        // Dropped here, outside the lock.
        drop(self.0.remove_if(&key, |_, value| wanted(value)));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(loom)]
pub(crate) struct Map<V>(loom::sync::Mutex<std::collections::BTreeMap<u64, V>>);

#[cfg(loom)]
impl<V> Map<V> {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Mutex::new(std::collections::BTreeMap::new()))
    }

    fn locked<R>(&self, act: impl FnOnce(&mut std::collections::BTreeMap<u64, V>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn insert(&self, key: u64, value: V) {
        self.locked(|map| map.insert(key, value));
    }

    pub(crate) fn with<R>(&self, key: u64, act: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.locked(|map| map.get_mut(&key).map(act))
    }

    pub(crate) fn remove_if(&self, key: u64, wanted: impl FnOnce(&V) -> bool) {
        drop(self.locked(|map| map.get(&key).is_some_and(wanted).then(|| map.remove(&key))));
    }

    pub(crate) fn len(&self) -> usize {
        self.locked(|map| map.len())
    }
}
