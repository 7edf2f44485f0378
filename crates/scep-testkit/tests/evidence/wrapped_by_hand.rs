// Evidence that wraps one value, wrapped around a value of one's own.
use scep_pkcs10::Csr;
use scep_policy::RetryKey;
use scep_types::CsrInfoHash;

fn forged(hash: CsrInfoHash) {
    let _ = Csr(Vec::new());
    let _ = RetryKey(hash);
}

fn main() {}
