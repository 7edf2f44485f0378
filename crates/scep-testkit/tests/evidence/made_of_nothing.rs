// Evidence by Default.
use scep_challenge::VerifiedClaims;
use scep_ledger::{Admission, IssuePermit, Releasable, Unsettled};
use scep_message::{PkiMessage, ReplyContext, SignedRequest};
use scep_pkcs10::{Csr, UnprovenCsr};
use scep_policy::{Conforming, RetryKey};

fn nothing<T: Default>() -> T {
    T::default()
}

fn main() {
    nothing::<PkiMessage>();
    nothing::<SignedRequest>();
    nothing::<ReplyContext>();
    nothing::<UnprovenCsr>();
    nothing::<Csr>();
    nothing::<RetryKey>();
    nothing::<VerifiedClaims>();
    nothing::<Admission>();
    nothing::<IssuePermit>();
    nothing::<Unsettled>();
    nothing::<Conforming>();
    nothing::<Releasable>();
}
