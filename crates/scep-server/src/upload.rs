//! The body of a request: as long as one may be, and all of them together.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What bodies that are being read may hold in memory together.
#[derive(Debug)]
pub(crate) struct Uploads {
    free: Arc<Semaphore>,
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
    /// So many octets.
    pub(crate) fn new(together: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(together.min(Semaphore::MAX_PERMITS))) }
    }

    /// Reads a body of `longest` octets or less.
    ///
    /// Into one piece of memory as it comes: pieces kept as they came would let a sender who cuts a body into single
    /// octets have much more memory than it has sent.
    pub(crate) async fn read(
        &self,
        mut body: Incoming,
        longest: usize,
    ) -> Result<Vec<u8>, UploadError> {
        let mut read = Vec::new();
        let mut held: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| UploadError::Broken)?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > longest.saturating_sub(read.len()) {
                return Err(UploadError::TooLong);
            }
            let more = u32::try_from(data.len()).map_err(|_| UploadError::TooLong)?;
            let more = Arc::clone(&self.free)
                .try_acquire_many_owned(more)
                .map_err(|_| UploadError::NoRoom)?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            read.extend_from_slice(&data);
        }
        Ok(read)
    }
}
