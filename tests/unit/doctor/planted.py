"""Secrets of every kind, to be planted and looked for. None of them opens anything."""

from __future__ import annotations

import base64
import urllib.parse

PASSWORD = 'p4ss/w0rd+"x'
LETTERS = "QUJDREVGZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY3OA"
SAS_KEY = f"{LETTERS}=="
SAS = (
    "SharedAccessSignature sr=hub.example%2Fdevices%2Fcam"
    f"&sig={urllib.parse.quote_plus(LETTERS + '=')}&se=1795000000"
)
CONNECTION = f"HostName=hub.example;DeviceId=cam;SharedAccessKey={SAS_KEY}"
URL = "https://line4:t0ps3cret@registry.example:5000/v2/"
TOKEN = "edg3d-T0k3n-0f-an-operat0r-abcdef"
WEB_TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJsaW5lNCJ9.c2lnbmF0dXJlLW9mLWEtd2ViLXRva2Vu"
PRIVATE = (
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIIl1bmVPbmVPZkFQcml2YXRlS2V5VGhhdE9wZW5zTm90aGluZ29BoGCC\n"
    "bGluZVR3b09mQVByaXZhdGVLZXlUaGF0T3BlbnNOb3RoaW5nQXRBbGxBdEFsbEF0\n"
    "-----END EC PRIVATE KEY-----\n"
)
BASIC = base64.b64encode(f"line4:{PASSWORD}".encode()).decode()

# What must not be found anywhere, in any spelling.
NEEDLES = (
    PASSWORD,
    PASSWORD.replace('"', '\\"'),
    urllib.parse.quote(PASSWORD, safe=""),
    base64.b64encode(PASSWORD.encode()).decode(),
    BASIC,
    LETTERS,
    "t0ps3cret",
    TOKEN,
    WEB_TOKEN,
    WEB_TOKEN.rpartition(".")[2],
    *PRIVATE.splitlines()[1:3],
)

# As programs write them, known to nobody beforehand.
LINES = (
    f"cannot fetch from {URL}: answers 401",
    "cannot use host 'line4:t0ps3cret@registry.example': expected HOST[:PORT]",
    f"connecting with {CONNECTION}",
    f"CONNECT password={SAS}",
    f"Authorization: Bearer {TOKEN}",
    f"authorization: Basic {BASIC}",
    f'{{"authorization": "Bearer {TOKEN}", "user": "line4"}}',
    f"token: {TOKEN}",
    f'auth_token = "{TOKEN}"',
    f"edged predict --token {TOKEN} --password {TOKEN}",
    f"jwt {WEB_TOKEN}",
    f"PASSWORD='{PASSWORD}'",
    'password = "t0ps3cret"  # {"passphrase": "t0ps3cret"}',
    f"https://blob.example/x?sv=1&sig={LETTERS}%3D&se=2",
    f"primary AccountKey={SAS_KEY};EndpointSuffix=core.example",
    *PRIVATE.splitlines(),
)
