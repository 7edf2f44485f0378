//! Whether an answer got out: its body was handed to the connection, and the connection was flushed
//! afterwards. SCEP has no delivery confirmation (RFC 8894, 7.4), so this is the most that can be known.

use crate::gateway::Gateway;
use core::pin::Pin;
use core::task::{Context, Poll};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use scep_ledger::Delivery;
use scep_types::CertificateFingerprint;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The receipts that one connection owes.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    gateway: Gateway,
    owed: Arc<Mutex<Owed>>,
}

#[derive(Debug, Default)]
struct Owed {
    /// Answers made, whose bodies the connection has not taken yet.
    waiting: Vec<CertificateFingerprint>,
    /// Bodies taken by the connection, not yet flushed.
    taken: Vec<CertificateFingerprint>,
    /// The connection is gone: what is made now is lost at once.
    gone: bool,
}

impl Receipts {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway, owed: Arc::default() }
    }

    /// An answer with this certificate was made, whether or not anybody is still there to take it.
    pub(crate) fn made(&self, certificate: CertificateFingerprint) {
        let gone = {
            let mut owed = self.owed();
            if !owed.gone {
                owed.waiting.push(certificate);
            }
            owed.gone
        };
        if gone {
            self.settle(vec![certificate], Delivery::ConnectionLost);
        }
    }

    /// The body of an answer that was made.
    pub(crate) fn body(&self, bytes: Vec<u8>, certificate: CertificateFingerprint) -> ReceiptBody {
        ReceiptBody { bytes: Some(bytes.into()), receipt: Some((self.clone(), certificate)) }
    }

    fn owed(&self) -> std::sync::MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self, certificate: CertificateFingerprint) {
        let mut owed = self.owed();
        // One of them: the same certificate may be on its way twice on one connection.
        if let Some(at) = owed.waiting.iter().position(|waiting| *waiting == certificate) {
            owed.waiting.swap_remove(at);
        }
        owed.taken.push(certificate);
    }

    fn flushed(&self) {
        let taken = core::mem::take(&mut self.owed().taken);
        self.settle(taken, Delivery::Flushed);
    }

    fn lost(&self) {
        let lost = {
            let mut owed = self.owed();
            owed.gone = true;
            let mut lost = core::mem::take(&mut owed.waiting);
            lost.append(&mut owed.taken);
            lost
        };
        self.settle(lost, Delivery::ConnectionLost);
    }

    /// Writes to the ledger from a task of its own: the connection does not wait for it.
    fn settle(&self, certificates: Vec<CertificateFingerprint>, delivery: Delivery) {
        if certificates.is_empty() {
            return;
        }
        let gateway = self.gateway.clone();
        self.gateway.inner.tracker.spawn(async move {
            let parts = &gateway.inner.parts;
            for certificate in certificates {
                let noted = parts.ledger.sent(certificate, delivery, parts.clock.now()).await;
                if let Err(error) = noted {
                    tracing::error!(target: "scep", %error, %certificate, "delivery was not recorded");
                }
            }
        });
    }
}

/// A body of one chunk that knows whether it is owed a receipt.
#[derive(Debug)]
pub(crate) struct ReceiptBody {
    bytes: Option<Bytes>,
    receipt: Option<(Receipts, CertificateFingerprint)>,
}

impl ReceiptBody {
    /// A body that is owed none.
    pub(crate) fn plain(bytes: Vec<u8>) -> Self {
        Self::shared(bytes.into())
    }

    /// The same of bytes that others hold too.
    pub(crate) const fn shared(bytes: Bytes) -> Self {
        Self { bytes: Some(bytes), receipt: None }
    }
}

impl Body for ReceiptBody {
    type Data = Bytes;
    type Error = core::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        if let Some((receipts, certificate)) = self.receipt.take() {
            receipts.taken(certificate);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(0)))
    }
}

/// A connection that settles its receipts when it is flushed, or dropped.
#[derive(Debug)]
pub(crate) struct TrackedIo<T> {
    inner: T,
    receipts: Receipts,
}

impl<T> TrackedIo<T> {
    pub(crate) const fn new(inner: T, receipts: Receipts) -> Self {
        Self { inner, receipts }
    }
}

impl<T> Drop for TrackedIo<T> {
    fn drop(&mut self) {
        self.receipts.lost();
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TrackedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TrackedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// The server flushes the connection only once its own buffer is empty, so everything taken before is out.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.receipts.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
