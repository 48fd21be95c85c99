//! Bodies of answers: whole, which costs what it always did, or made piece by piece while the peer reads.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Makes the pieces of a [`Body`].
pub trait Pieces: Send + 'static {
    /// The next piece; `None` ends the body. Asked for only when the one before has been handed to the connection;
    /// dropped at any time.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The body of an answer.
pub struct Body(Kind);

enum Kind {
    Whole(Full<Bytes>),
    Stream(Box<Stream>),
}

struct Stream {
    pieces: Pin<Box<dyn HttpBody<Data = Bytes, Error = Infallible> + Send>>,
    /// Ends the body between two pieces.
    until: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Dropped with the body: what lasts as long as the answer.
    _held: Option<Box<dyn Any + Send>>,
}

impl From<Bytes> for Body {
    fn from(whole: Bytes) -> Self {
        Self(Kind::Whole(Full::new(whole)))
    }
}

impl Body {
    /// A body of unknown length. A piece is asked for only when the one before has been handed to the connection, so
    /// a peer that reads slowly holds one piece and the connection's buffer, and one that does not read is cut by
    /// the write deadline. The listener ends it when it drains or stops.
    pub fn stream(pieces: impl Pieces) -> Self {
        let pieces = Box::pin(Unfolding::Waiting(Box::pin(step(pieces))));
        Self(Kind::Stream(Box::new(Stream { pieces, until: None, _held: None })))
    }

    /// Whether the answer is over only when its body is.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self.0, Kind::Stream(_))
    }

    /// Ends a stream when `until` does, and drops `held` with it. Does nothing to a whole body.
    pub(super) fn bind(&mut self, until: impl Future<Output = ()> + Send + 'static, held: impl Any + Send) {
        if let Kind::Stream(stream) = &mut self.0 {
            stream.until = Some(Box::pin(until));
            stream._held = Some(Box::new(held));
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Kind::Stream(stream) => {
                if stream.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
                    // Not polled again.
                    stream.until = None;
                    return Poll::Ready(None);
                }
                stream.pieces.as_mut().poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(whole) => whole.is_end_stream(),
            Kind::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(whole) => HttpBody::size_hint(whole),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

type Step<P> = dyn Future<Output = Option<(P, Bytes)>> + Send;

/// Pieces, one future after the other.
enum Unfolding<P> {
    Waiting(Pin<Box<Step<P>>>),
    Over,
}

async fn step<P: Pieces>(mut pieces: P) -> Option<(P, Bytes)> {
    let piece = pieces.next().await?;
    Some((pieces, piece))
}

impl<P: Pieces> HttpBody for Unfolding<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let Self::Waiting(next) = this else { return Poll::Ready(None) };
        let Poll::Ready(made) = next.as_mut().poll(cx) else { return Poll::Pending };
        let Some((pieces, piece)) = made else {
            *this = Self::Over;
            return Poll::Ready(None);
        };
        *this = Self::Waiting(Box::pin(step(pieces)));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_stream() { "Body(stream)" } else { "Body(whole)" })
    }
}
