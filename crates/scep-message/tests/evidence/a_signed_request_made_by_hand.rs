use scep_message::{MessageType, SignedRequest};

fn main() {
    let _ = SignedRequest { message_type: MessageType::PkcsReq };
}
