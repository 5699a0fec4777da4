"""The keyring: the newest key is told, and all of them open."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from coordinator import rotation
from coordinator.keyring import SEALING, Keyring, add_key
from federation.messages import Offer
from federation.sealing import SealError, about, key_id, seal
from tests.specimens import an_offer

FEDERATION = "flockwise/test"


def offered(public: bytes, payload: bytes = b"payload", **facts: object) -> tuple[bytes, Offer]:
    offer = an_offer(seal=key_id(public), **facts)
    what = about(
        FEDERATION,
        "one",
        offer.outbox,
        offer.sequence,
        offer.ledger,
        offer.base_version,
        offer.codec,
    )
    return seal(payload, public, what), offer


def opened(keyring: Keyring, sealed: bytes, device: str, offer: Offer) -> bytes:
    blocks = keyring.unseal(BytesIO(sealed), device, offer)
    assert blocks is not None
    return b"".join(blocks)


def test_an_empty_folder_gets_a_first_key_that_stays(tmp_path: Path) -> None:
    first = Keyring(tmp_path, FEDERATION).current
    assert len(first) == 32
    assert Keyring(tmp_path, FEDERATION).current == first
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_new_key_is_taken_up_and_the_older_ones_open_still(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path, FEDERATION)
    first = keyring.current
    sealed, offer = offered(first)
    add_key(tmp_path)
    second = keyring.refresh()
    assert second != first
    assert keyring.names == {key_id(first), key_id(second)}
    assert opened(keyring, sealed, "one", offer) == b"payload"
    again, newer = offered(second)
    assert opened(keyring, again, "one", newer) == b"payload"


def test_the_tenth_key_is_later_than_the_ninth(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path, FEDERATION)
    for _ in range(9):
        last = add_key(tmp_path)
    assert key_id(keyring.refresh()) == last
    assert key_id(Keyring(tmp_path, FEDERATION).current) == last


@pytest.mark.parametrize(
    ("device", "facts"),
    [
        ("two", {}),
        ("one", {"sequence": 1}),
        ("one", {"base_version": 1}),
        ("one", {"outbox": b"outbox-2"}),
        ("one", {"ledger": b"ledger-2"}),
        ("one", {"codec": "int8"}),
    ],
)
def test_an_update_opens_only_as_what_was_offered(
    tmp_path: Path, device: str, facts: dict[str, object]
) -> None:
    keyring = Keyring(tmp_path, FEDERATION)
    sealed, offer = offered(keyring.current)
    claimed = offer.model_copy(update=facts)
    with pytest.raises(SealError, match="does not open"):
        opened(keyring, sealed, device, claimed)


def test_an_unknown_key_is_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    keyring = Keyring(tmp_path / "one", FEDERATION)
    sealed, offer = offered(Keyring(tmp_path / "two", FEDERATION).current)
    with pytest.raises(SealError, match="a key that this coordinator does not have"):
        opened(keyring, sealed, "one", offer)


def test_a_file_that_is_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "000001.pem").write_text("junk")
    with pytest.raises(Failure, match=r"000001\.pem cannot be used") as caught:
        Keyring(tmp_path, FEDERATION)
    assert caught.value.code == ExitCode.CONFIG


def test_the_command_makes_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / SEALING
    folder.mkdir()
    keyring = Keyring(folder, FEDERATION)
    assert rotation.main(["--state-dir", str(tmp_path), "--json"]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert key_id(keyring.refresh()).hex() == told["key"]


def test_the_command_says_where_there_is_no_keyring(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    with pytest.raises(Failure, match="no sealing keys"):
        rotation.main(["--state-dir", str(tmp_path)])
