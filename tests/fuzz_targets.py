"""Every decoder of what others wrote: a function of bytes, what it may raise, and good specimens.

A target fails if anything but its refusals is raised, or if it takes more memory than a few times
what it was given.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import ValidationError

from broker.authority import Description, open_authority
from broker.enrolment import bundle_for
from broker.founding import Plan, found
from broker.log_lines import LogReader
from config.failures import Failure
from config.loading import load
from config.sections import FederationName
from config.settings import AgentSettings, CoordinatorSettings, Settings
from coordinator.keyring import Keyring, add_key
from coordinator.quarantine import read_entries
from coordinator.versions import Versions
from experiments.summary import read_reports
from federation.bundle import BundleError, read_bundle, write_bundle
from federation.certificates import (
    CertificateError,
    new_tls_key,
    read_certificate,
    read_key,
    read_request,
    request_certificate,
)
from federation.compression import decode as decode_vector
from federation.compression import decode_range
from federation.compression import encode as encode_vector
from federation.credentials import CredentialError, verified
from federation.enrolment_token import Token, TokenError, read_token, write_token
from federation.envelope import EnvelopeError
from federation.joining import Answer, Question
from federation.layout import Layout, LayoutError
from federation.machine import Publish
from federation.membership import read_membership
from federation.messages import Chunk, MessageError, decode, encode
from federation.renewal import install_certificate
from federation.sealing import SealError, seal, unseal
from federation.sizes import CODECS, PLAIN_CODECS, RANGE, CodecError
from federation.status_board import read_status
from federation.status_text import as_lines
from learning.checkpoint import Checkpoint
from learning.chunks import Chunk as DataChunk
from learning.chunks import read_chunk, write_chunk
from tests.fuzz_cases import Maker, any_json, any_msgpack, wrong_json, wrong_msgpack
from tests.members import Authority
from tests.specimens import TOPICS, a_header
from tests.test_federation_messages import EXAMPLES

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LAYOUT = Layout.from_wire([["0.weight", [4, 3]], ["0.bias", [4]]])


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        refusals: what it may raise; nothing else.
        specimens: what it takes, to be damaged.
        bad: what it refuses, to be damaged.
        more: other makers of cases.
        base_bytes, factor: it may take `base_bytes + factor * len(data)` of memory.
    """

    decode: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    specimens: tuple[bytes, ...]
    bad: tuple[bytes, ...] = ()
    more: tuple[Maker, ...] = ()
    base_bytes: int = 2**23
    factor: int = 64


def targets(folder: Path) -> dict[str, Target]:
    """All of them, by name; what they read from files lies in `folder`."""
    made: dict[str, Target] = {}
    for group in (_language, _trust, _certificates, _files, _settings):
        made.update(group(folder / group.__name__))
    return made


def _target(
    decode: Callable[[bytes], object],
    refusals: type[Exception] | tuple[type[Exception], ...],
    *specimens: bytes,
    **fields: Any,
) -> Target:
    allowed = refusals if isinstance(refusals, tuple) else (refusals,)
    return Target(decode, allowed, specimens, **fields)


# What comes over the link


def _language(_folder: Path) -> dict[str, Target]:
    small = tuple(encode(message) for message in EXAMPLES.values())
    frame = Chunk(7, 2, bytes(range(200))).encode()
    wrong = wrong_msgpack(*(msgpack.unpackb(message) for message in small))
    layout = msgpack.packb(LAYOUT.to_wire())
    vector = np.linspace(-1, 1, 700, dtype=np.float32)
    vectors = [
        struct.pack("<BI", number, vector.size) + encode_vector(codec, vector)
        for number, codec in enumerate(CODECS)
    ]
    return {
        "message": _target(decode, MessageError, *small, frame, more=(any_msgpack, wrong)),
        "layout": _target(_layout, LayoutError, layout, more=(any_msgpack,)),
        "codec": _target(_vector, CodecError, *vectors),
        "log line": _target(_log_line, (), b"Denied PUBLISH from a (d0, q1, r0, m1, 't', ... (3 b"),
    }


def _layout(data: bytes) -> None:
    try:
        wire = msgpack.unpackb(data, use_list=False, max_array_len=4096, max_map_len=64)
    except (ValueError, TypeError, msgpack.UnpackException):
        return  # the bytes are the business of `messages.decode`
    layout = Layout.from_wire(wire)
    assert 0 < layout.size <= 2**31
    assert Layout.from_wire(layout.to_wire()) == layout


def _vector(data: bytes) -> None:
    head = data[:5].ljust(5, b"\0")
    number, d = struct.unpack("<BI", head)
    names = (*CODECS, "none")
    codec = names[number % len(names)]
    vector = decode_vector(codec, data[5:], d)
    assert vector.shape == (d,)
    if codec in PLAIN_CODECS:
        for start in range(0, d, RANGE):
            stop = min(d, start + RANGE)
            part = decode_range(codec, data[5:], d, start, stop)
            assert part.tobytes() == vector[start:stop].tobytes()


def _log_line(data: bytes) -> None:
    told = LogReader(TOPICS, lambda: 0.0).read(data.decode(errors="replace"))
    assert told is None or told.isprintable()


# What is signed, sealed or carried


def _trust(folder: Path) -> dict[str, Target]:
    authority = Authority(TOPICS)
    device = authority.signer("one")
    whole = device.sign(Publish(TOPICS.up("one"), encode(EXAMPLES["offer"]))).payload
    header = authority.signer().sign(Publish(TOPICS.model, encode(a_header()))).payload
    body = device.credential[64:]
    key = X25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    sealed = tuple(seal(bytes(size), public, b"about") for size in (0, 100, 70_000))
    token = Token("broker.example", 8883, "one", bytes(16), bytes(32))
    fields = wrong_msgpack(msgpack.unpackb(body))
    return {
        "credential": _target(
            partial(verified, authority.public), CredentialError, device.credential
        ),
        "credential that the authority signed": _target(
            partial(_signed_credential, authority),
            CredentialError,
            body,
            more=(any_msgpack, fields),
        ),
        "envelope of a device": _target(
            partial(_opened, authority, TOPICS.up("one")),
            (EnvelopeError, MessageError),
            whole,
            bad=(header,),
        ),
        "envelope of the coordinator": _target(
            partial(_opened, authority, TOPICS.model),
            (EnvelopeError, MessageError),
            header,
            bad=(whole,),
        ),
        "sealed update": _target(lambda data: unseal(data, key, b"about"), SealError, *sealed),
        "token": _target(_token, TokenError, write_token(token).encode()),
        "sealing key": _target(
            partial(_sealing_key, _made(folder / "keys")), Failure, _key(folder)
        ),
    }


def _signed_credential(authority: Authority, body: bytes) -> None:
    verified(authority.public, authority.key.sign(b"flockwise credential\0" + body) + body)


def _opened(authority: Authority, topic: str, data: bytes) -> None:
    opened = authority.verifier().read(topic, data)[0]
    if opened:
        decode(opened)


def _token(data: bytes) -> None:
    read_token(data.decode("utf-8", "replace"))


def _key(folder: Path) -> bytes:
    add_key(_made(folder / "one key"))
    (path,) = (folder / "one key").iterdir()
    return path.read_bytes()


def _sealing_key(folder: Path, data: bytes) -> None:
    (folder / "000001.pem").write_bytes(data)
    assert Keyring(folder, "flockwise/test").current


# Certificates and memberships


def _certificates(folder: Path) -> dict[str, Target]:
    home = _made(folder) / "authority"
    name = FederationName()
    found(home, Plan(Description(federation=name, hosts=("broker.example",), port=8883)), NOW)
    with open_authority(home) as authority:
        bundle = bundle_for(authority, "one", NOW)
    member = _made(folder / "member")
    for file, data in bundle.files.items():
        (member / file).touch(mode=0o600)
        (member / file).write_bytes(data)
    good = {path.name: path.read_bytes() for path in member.iterdir()}
    carried = write_bundle(bundle)
    question = {
        "kind": "join",
        "device": "one",
        "secret": "A" * 22 + "==",
        "request": "AAAA",
        "signing_key": "A" * 43 + "=",
    }
    whole = json.loads(carried)
    answer = {name: whole[name] for name in ("member", "credential", "ca", "certificate")}
    answer["kind"] = "joined"
    bundled = wrong_json(whole)
    read = partial(_member_file, member, good)
    certificate, key = good["certificate.pem"], good["tls.key"]
    asked = request_certificate(new_tls_key(), "one")
    return {
        "bundle": _target(read_bundle, BundleError, carried, more=(any_json, bundled)),
        "question of a device that joins": _target(
            Question.model_validate_json,
            ValidationError,
            _json(question),
            more=(any_json, wrong_json(question)),
        ),
        "answer to it": _target(
            Answer.model_validate_json,
            ValidationError,
            _json(answer),
            more=(any_json, wrong_json(answer)),
        ),
        "member.json": _target(
            partial(read, "member.json"),
            Failure,
            good["member.json"],
            more=(any_json, wrong_json(json.loads(good["member.json"]))),
        ),
        "signing.key": _target(
            partial(read, "signing.key"), Failure, good["signing.key"], bad=(key,)
        ),
        "least.json": _target(
            partial(read, "least.json"), Failure, b'{"one": 2, "": 3}', more=(any_json,)
        ),
        "certificate": _target(read_certificate, CertificateError, certificate),
        "key": _target(read_key, CertificateError, key, bad=(good["signing.key"],)),
        "certificate signing request": _target(
            lambda data: read_request(data, "one"), CertificateError, asked
        ),
        "renewed certificate": _target(
            partial(install_certificate, member), CertificateError, certificate
        ),
    }


def _member_file(folder: Path, good: dict[str, bytes], name: str, data: bytes) -> None:
    path = folder / name
    path.touch(mode=0o600)
    path.write_bytes(data)
    try:
        read_membership(folder).verifier()
    finally:
        if name in good:
            path.write_bytes(good[name])
        else:
            path.unlink()


# Files of data and of state


def _files(folder: Path) -> dict[str, Target]:
    _made(folder)
    state = _made(folder / "state")
    chunk, model = _chunk_file(folder), _saved_model(folder)
    training = _saved_training(folder)
    status = _json({"summary": "linked", "pid": 1, "told_at": 1.5, "devices": ["one"], "x": {}})
    row = b'{"kind": "update", "time_s": 1.5, "metrics": {"loss": 1.0}}\n'
    in_quarantine = _json(
        {
            "format": 1,
            "devices": {
                "one": {"quarantined": True, "by": "rule", "reason": "x", "version": 3, "at": 1.0}
            },
        }
    )
    return {
        "chunk file": _target(
            partial(_through, folder / "fuzzed.npz", read_chunk),
            Failure,
            chunk,
            bad=_bombs(chunk),
            factor=16,
        ),
        "training under way": _target(
            partial(_through, folder / "training", _resumed),
            (),
            training,
            bad=_bombs(training),
            factor=16,
        ),
        "checkpoint of a version": _target(partial(_version, folder), Failure, model, factor=16),
        "status.json": _target(
            partial(_through, state / "status.json", _shown), (), status, more=(any_json,)
        ),
        "reports.jsonl": _target(
            partial(_through, folder / "reports.jsonl", read_reports), (), row, more=(any_json,)
        ),
        "quarantine.json": _target(
            partial(_through, state / "quarantine.json", lambda path: read_entries(path.parent)),
            Failure,
            in_quarantine,
            more=(any_json,),
        ),
    }


def _chunk_file(folder: Path) -> bytes:
    images = np.zeros((1, 3, 32, 32), np.uint8)
    path = folder / "specimen.npz"
    write_chunk(path, DataChunk(images, np.zeros(1, int), images, np.zeros(1, int), ("a",), True))
    return path.read_bytes()


def _bombs(archive: bytes) -> tuple[bytes, ...]:
    """The same archive with a member that inflates to a thousand times its size, or claims to."""
    made = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(archive)) as source,
            zipfile.ZipFile(out, "w", compression) as copy,
        ):
            for entry in source.infolist():
                data = source.read(entry)
                if compression == zipfile.ZIP_DEFLATED:
                    data += bytes(2**25)
                else:
                    data = data.replace(b"(1,", b"(9" + b"9" * 8 + b",", 1)
                copy.writestr(entry.filename, data, compression)
        made.append(out.getvalue())
    return tuple(made)


def _saved_training(folder: Path) -> bytes:
    path = folder / "a training"
    saved = Checkpoint(path, 0.0, lambda: "about")
    saved.offer(lambda: {"model": np.ones(100, np.float32), "step": np.asarray(3)})
    return path.read_bytes()


def _resumed(path: Path) -> None:
    Checkpoint(path, 0.0, lambda: "about").resume()


def _saved_model(folder: Path) -> bytes:
    versions = Versions(_made(folder / "versions"), 1024)
    vector = np.arange(LAYOUT.size, dtype=np.float32)
    versions.save(1, vector, {"moment": vector}, LAYOUT)
    return versions.checkpoint_path(1).read_bytes()


def _version(folder: Path, data: bytes) -> None:
    versions = Versions(folder / "versions", 1024)
    versions.checkpoint_path(1).write_bytes(data)
    vector, _ = versions.load(1, LAYOUT)
    assert vector.shape == (LAYOUT.size,)
    assert vector.dtype == np.float32


def _shown(path: Path) -> None:
    told = read_status(path.parent)
    if told is not None:
        as_lines(told)


def _through(path: Path, read: Callable[[Path], object], data: bytes) -> None:
    path.write_bytes(data)
    read(path)


# Settings


def _settings(folder: Path) -> dict[str, Target]:
    path = _made(folder) / "settings.toml"
    agent = (
        b'device = "one"\nchunk = "one.npz"\n[link]\nport = 1883\nusername = "one"\n'
        b'[privacy]\nnoise = 4.0\n[eligibility]\nhours = "22-6"\n'
    )
    coordinator = b'strategy = "fedavg"\n[aggregation]\nfraction = 0.5\n[training]\nepochs = 2\n'
    environment = b"DEVICE=one\0CHUNK=one.npz\0LINK__PORT=1883\0PRIVACY__NOISE=4"
    bad = b'DEVICE=one\0LINK={"port": 3}\0NOTHING=1'
    room = 2**24  # for the models of the settings, once
    return {
        "settings of an agent": _target(
            partial(_toml, path, AgentSettings), Failure, agent, base_bytes=room
        ),
        "settings of a coordinator": _target(
            partial(_toml, path, CoordinatorSettings), Failure, coordinator, base_bytes=room
        ),
        "settings in the environment": _target(
            _environment, Failure, environment, bad=(bad,), base_bytes=room
        ),
    }


def _toml(path: Path, role: type[Settings], data: bytes) -> None:
    path.write_bytes(data)
    load(role, ["--config", str(path)], prog="fuzz", environ={})


def _environment(data: bytes) -> None:
    words = [word.partition("=") for word in data.decode("utf-8", "surrogateescape").split("\0")]
    environ = {f"FLOCKWISE_{name}": value for name, _, value in words}
    load(AgentSettings, [], prog="fuzz", environ=environ)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
