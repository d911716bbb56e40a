"""Makes the container `bucket` in an Azurite on this machine. Its account and key are public: every Azurite has them."""

import base64
import email.utils
import hashlib
import hmac
import sys
import urllib.request

KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

port = sys.argv[1]
date = email.utils.formatdate(usegmt=True)
headers = {"x-ms-date": date, "x-ms-version": "2021-12-02"}
canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
resource = "/devstoreaccount1/devstoreaccount1/bucket\nrestype:container"
text = "PUT" + "\n" * 12 + canonical + resource
signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
request = urllib.request.Request(
    f"http://127.0.0.1:{port}/devstoreaccount1/bucket?restype=container",
    method="PUT",
    headers={**headers, "Authorization": f"SharedKey devstoreaccount1:{signature}", "Content-Length": "0"},
)
with urllib.request.urlopen(request, timeout=20) as answer:
    assert answer.status == 201, answer.status
