// A CA asked with everything but a permit: contents, an approval, an admission that was not redeemed.
use scep_ca::CertificateAuthority;
use scep_ledger::Admission;
use scep_policy::{Approval, CertificateContents};

async fn asked(
    ca: &dyn CertificateAuthority,
    contents: CertificateContents,
    approval: Approval,
    admission: Admission,
) {
    let _ = ca.issue(contents).await;
    let _ = ca.issue(approval).await;
    let _ = ca.issue(admission).await;
}

fn main() {}
