"""Enrols with pyscep and prints what came of it: SUCCESS and the certificate in PEM, or FAILURE and the failInfo.

pyscep_enrol.py URL CHALLENGE_FILE COMMON_NAME DNS_NAME
"""

import sys

from scep import Client

url, challenge_file, common_name, dns_name = sys.argv[1:]
with open(challenge_file, encoding="ascii") as file:
    challenge = file.read().strip()

usage = {"digital_signature", "key_encipherment"}
# The message is signed with this key: another one than the key to be certified.
identity, identity_key = Client.SigningRequest.generate_self_signed("throw-away", usage)

key = Client.SigningRequest.generate_pair()
builder = Client.ScepCSRBuilder({"common_name": common_name}, key.public_key.to_asn1_public_key())
builder.key_usage = usage
# The builder's own choice has serverAuth in it.
builder.extended_key_usage = {"client_auth"}
builder.subject_alt_domains = [dns_name]
builder.password = challenge
request = Client.SigningRequest(request=builder.build(key.to_asn1_private_key()))

answer = Client.Client(url).enrol(request, identity, identity_key)
print(answer.status.name)
if answer.status is Client.PKIStatus.SUCCESS:
    print(answer.certificates[0].to_pem().decode())
else:
    print(Client.FailInfo(answer.fail_info).name)
