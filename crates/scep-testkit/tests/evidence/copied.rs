// Evidence twice. Approval, IssuePermit and Conforming: beside their types.
use scep_challenge::VerifiedClaims;
use scep_ledger::{Admission, Releasable, Unsettled};
use scep_message::{ReplyContext, SignedRequest};
use scep_pkcs10::Csr;

fn copied<T: Clone>(one: &T) -> (T, T) {
    (one.clone(), one.clone())
}

fn copies(
    signed: &SignedRequest,
    context: &ReplyContext,
    csr: &Csr,
    claims: &VerifiedClaims,
    admission: &Admission,
    unsettled: &Unsettled,
    releasable: &Releasable,
) {
    copied(signed);
    copied(context);
    copied(csr);
    copied(claims);
    copied(admission);
    copied(unsettled);
    copied(releasable);
}

fn main() {}
