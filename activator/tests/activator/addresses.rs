//! What the API server would say of who has an address.

use std::net::IpAddr;
use std::sync::Mutex;

use futures::future::BoxFuture;
use pilotlight_activator::beacon::holders::{AddressPort, Holder};

/// Who has an address; nobody at first.
#[derive(Default)]
pub(crate) struct Addresses {
    holders: Mutex<Vec<Holder>>,
    asked: Mutex<usize>,
}

impl Addresses {
    /// From now on, this pod has whatever address is asked about.
    pub(crate) fn give_to(&self, uid: &str) {
        let holder = Holder { uid: uid.to_owned(), name: "elsewhere/mallory".to_owned() };
        self.holders.lock().unwrap().push(holder);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl AddressPort for Addresses {
    fn holders(&self, _: IpAddr) -> BoxFuture<'_, Result<Vec<Holder>, kube::Error>> {
        Box::pin(async {
            *self.asked.lock().unwrap() += 1;
            Ok(self.holders.lock().unwrap().clone())
        })
    }
}
