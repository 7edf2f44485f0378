"""Enrols with scepreq, as its main does, and prints what came of it.

scepreq_enrol.py URL CHALLENGE_FILE COMMON_NAME DNS_NAME
"""

import sys

from scepreq.client import Client
from scepreq.enums import FailInfo, PKIStatus
from scepreq.signingrequest import SigningRequest

url, challenge_file, common_name, dns_name = sys.argv[1:]
with open(challenge_file, encoding="ascii") as file:
    challenge = file.read().strip()

usage = {"digital_signature", "key_encipherment"}
identity, identity_key = SigningRequest.generate_self_signed("throw-away", usage)
# With a name besides the subject it writes a second extensionRequest attribute.
request, key = SigningRequest.generate_csr(
    f"CN={common_name}", usage, {"client_auth"}, challenge, alt_dns=dns_name
)

answer = Client(url).enrol(request, identity, identity_key)
print(answer.status.name)
if answer.status is not PKIStatus.SUCCESS:
    print(FailInfo(answer.fail_info).name)
