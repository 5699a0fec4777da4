"""The access list is made from the table of rights, and grants nothing that is not in it."""

from __future__ import annotations

import base64
import hashlib

from broker.passwords import hashed, new_password
from broker.rights import access_list
from federation.topics import Topics

EXPECTED = """\
# Made by Flockwise from its table of rights. What no line here allows is denied.

user _coordinator
topic write f/x/coordinator
topic read f/x/coordinator
topic write f/x/model
topic write f/x/model/+/+
topic read f/x/device/+
topic read f/x/device/+/up
topic write f/x/device/+/down

user _authority
topic read f/x/device/+/csr
topic write f/x/device/+/certificate

# Each device: %u is its name.
pattern read f/x/coordinator
pattern read f/x/model
pattern read f/x/model/+/+
pattern write f/x/device/%u
pattern read f/x/device/%u
pattern write f/x/device/%u/up
pattern read f/x/device/%u/down
pattern write f/x/device/%u/csr
pattern read f/x/device/%u/certificate
"""


def test_the_access_list_is_this_text() -> None:
    assert access_list(Topics("f", "x")) == EXPECTED


def test_who_is_revoked_may_do_nothing() -> None:
    text = access_list(Topics("f", "x"), ["b", "a"])
    denied = "\n# Revoked.\nuser a\ntopic deny f/x/#\nuser b\ntopic deny f/x/#\n"
    assert text == EXPECTED + denied


def test_a_password_is_kept_in_the_form_of_mosquitto() -> None:
    kept = hashed("open sesame", salt=b"123456789012")
    digest = hashlib.pbkdf2_hmac("sha512", b"open sesame", b"123456789012", 101)
    assert kept == f"$7$101$MTIzNDU2Nzg5MDEy${base64.b64encode(digest).decode()}"


def test_no_two_passwords_are_the_same() -> None:
    assert len({new_password() for _ in range(100)}) == 100
    assert len({hashed("same") for _ in range(100)}) == 100
