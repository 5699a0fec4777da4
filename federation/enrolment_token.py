"""The one-time token: where a device joins, as who, with what secret, and whom it may believe.

One line, `flockwise1.<base64>`, of at most 400 characters. The fingerprint is that of the
certificate which the enrolling side shows, made for this one token; so the secret is told to
nobody else.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.values import Identifier, Word

SECRET_BYTES = 16
_MARK = "flockwise1."
_LONGEST = 400


class TokenError(ValueError):
    """What was given is no token; one line that shows nothing of it."""


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    h: Word
    p: Annotated[int, Field(ge=1, le=65535)]
    d: Identifier
    s: Annotated[bytes, Field(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    f: Annotated[bytes, Field(min_length=32, max_length=32)]


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says.

    Attributes:
        host, port: where the enrolling side listens.
        fingerprint: SHA-256 of the certificate that it shows, DER.
    """

    host: str
    port: int
    device: str
    secret: bytes
    fingerprint: bytes

    def __repr__(self) -> str:
        return f"Token({self.host!r}, {self.port}, {self.device!r})"


def looks_like_a_token(text: str) -> bool:
    """Whether this is meant to be a token, and not the name of a file."""
    return text.startswith(_MARK)


def write_token(token: Token) -> str:
    """The token as it is shown and typed."""
    fields = {
        "h": token.host,
        "p": token.port,
        "d": token.device,
        "s": token.secret,
        "f": token.fingerprint,
    }
    return _MARK + base64.urlsafe_b64encode(msgpack.packb(fields)).decode().rstrip("=")


def read_token(text: str) -> Token:
    """What a token says.

    Raises:
        TokenError: it is none.
    """
    text = text.strip()
    if not looks_like_a_token(text) or len(text) > _LONGEST:
        raise TokenError("that is no token of flockwise broker enroll --token")
    body = text.removeprefix(_MARK)
    try:
        packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        fields = _Fields.model_validate(msgpack.unpackb(packed, max_array_len=0, max_map_len=5))
    except (ValidationError, ValueError, TypeError, binascii.Error, msgpack.UnpackException):
        raise TokenError("the token is damaged; copy it anew, whole") from None
    return Token(fields.h, fields.p, fields.d, fields.s, fields.f)
