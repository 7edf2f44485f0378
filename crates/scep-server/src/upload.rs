//! The body of a request: as long as one may be, and all of them together.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Into so many parts is the room divided: one source has at most one of them.
const SHARES: usize = 8;

/// What bodies that are being read may hold in memory together.
#[derive(Debug)]
pub(crate) struct Uploads {
    free: Arc<Semaphore>,
    /// The most that the bodies of one source may hold.
    share: usize,
    /// What they hold; who holds nothing is not in it.
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// What the body of a source holds, until it is dropped.
struct Held<'a> {
    uploads: &'a Uploads,
    source: IpAddr,
    octets: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held<'_> {
    fn add(&mut self, octets: usize) -> Result<(), UploadError> {
        let count = u32::try_from(octets).map_err(|_| UploadError::TooLong)?;
        {
            let mut held = self.uploads.held();
            let before = held.get(&self.source).copied().unwrap_or(0);
            let after = before.saturating_add(octets);
            if after > self.uploads.share {
                return Err(UploadError::NoRoom);
            }
            held.insert(self.source, after);
        }
        self.octets = self.octets.saturating_add(octets);
        let more = Arc::clone(&self.uploads.free)
            .try_acquire_many_owned(count)
            .map_err(|_| UploadError::NoRoom)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.uploads.held();
        if let Some(left) = held.get_mut(&self.source) {
            *left = left.saturating_sub(self.octets);
            if *left == 0 {
                held.remove(&self.source);
            }
        }
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadError {
    /// Longer than one body may be.
    TooLong,
    /// All of them together are longer than they may be.
    NoRoom,
    /// The connection broke, or the encoding is wrong.
    Broken,
}

impl Uploads {
    /// So many octets, in bodies that are not longer than this.
    pub(crate) fn new(together: usize, longest: usize) -> Self {
        let free = Arc::new(Semaphore::new(together.min(Semaphore::MAX_PERMITS)));
        // Room for one body at least.
        let share = together.div_ceil(SHARES).max(longest);
        Self { free, share, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a body of `longest` octets or less, as the part of a source.
    ///
    /// Into one piece of memory as it comes: pieces kept as they came would let a sender who cuts a body into single
    /// octets have much more memory than it has sent.
    pub(crate) async fn read(
        &self,
        source: IpAddr,
        mut body: Incoming,
        longest: usize,
    ) -> Result<Vec<u8>, UploadError> {
        let mut read = Vec::new();
        let mut held = Held { uploads: self, source, octets: 0, permit: None };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| UploadError::Broken)?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > longest.saturating_sub(read.len()) {
                return Err(UploadError::TooLong);
            }
            held.add(data.len())?;
            read.extend_from_slice(&data);
        }
        Ok(read)
    }
}
