// Evidence out of a file or a message.
use scep_challenge::VerifiedClaims;
use scep_ledger::{Admission, IssuePermit, Releasable, Unsettled};
use scep_message::{ReplyContext, SignedRequest};
use scep_pkcs10::Csr;
use scep_policy::{Approval, Conforming, RetryKey};

fn from_json<T: for<'a> serde::Deserialize<'a>>() {}

fn main() {
    from_json::<SignedRequest>();
    from_json::<ReplyContext>();
    from_json::<Csr>();
    from_json::<RetryKey>();
    from_json::<VerifiedClaims>();
    from_json::<Approval>();
    from_json::<Admission>();
    from_json::<IssuePermit>();
    from_json::<Unsettled>();
    from_json::<Conforming>();
    from_json::<Releasable>();
}
