"""Topics: what is built parses back, what is foreign does not, and rights make the filters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import federation.topics
from federation.topics import RIGHTS, Address, Place, Right, Role, Topics

TOPICS = Topics("flockwise", "default")
LONGEST = Topics("p" * 40 + "/" + "q" * 40, "n" * 40)

ids = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)
numbers = st.integers(0, 999_999)
federations = st.builds(
    Topics,
    st.from_regex(r"[A-Za-z0-9_.-]{1,40}(/[A-Za-z0-9_.-]{1,40})?", fullmatch=True),
    ids,
)
addresses = st.one_of(
    st.just(Address(Place.COORDINATOR)),
    st.just(Address(Place.MODEL)),
    st.builds(lambda s, i: Address(Place.MODEL_CHUNK, slot=s, index=i), numbers, numbers),
    st.builds(
        Address,
        st.sampled_from([Place.DEVICE, Place.UP, Place.DOWN, Place.CSR, Place.CERTIFICATE]),
        ids,
    ),
)


def build(topics: Topics, address: Address) -> str:
    match address.place:
        case Place.COORDINATOR:
            return topics.coordinator
        case Place.MODEL:
            return topics.model
        case Place.MODEL_CHUNK:
            return topics.model_chunk(address.slot, address.index)
        case Place.DEVICE:
            return topics.device(address.device)
        case Place.UP:
            return topics.up(address.device)
        case Place.DOWN:
            return topics.down(address.device)
        case Place.CSR:
            return topics.csr(address.device)
        case Place.CERTIFICATE:
            return topics.certificate(address.device)


@given(federations, addresses)
@settings(deadline=None)
def test_what_is_built_parses_back(topics: Topics, address: Address) -> None:
    assert topics.parse(build(topics, address)) == address


levels = st.sampled_from(
    [
        "coordinator",
        "model",
        "device",
        "up",
        "down",
        "csr",
        "camera-7",
        "0",
        "7",
        "07",
        "+",
        "#",
        "",
        "A",
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(levels, max_size=5).map("/".join)))
@settings(deadline=None)
def test_an_address_has_one_topic_only(below: str) -> None:
    address = TOPICS.parse(TOPICS.root + below)
    assert address is None or build(TOPICS, address) == TOPICS.root + below


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_may_be_parsed(text: str) -> None:
    address = TOPICS.parse(text)
    assert address is None or text.startswith("flockwise/default/")


@pytest.mark.parametrize(
    "foreign",
    [
        "flockwise/other/coordinator",
        "flockwise/default2/coordinator",
        "flockwise/defaul",
        "flockwise/default",
        "flockwise/default/",
        "/flockwise/default/coordinator",
        "Flockwise/default/coordinator",
        "site/flockwise/default/coordinator",
        "$SYS/broker/version",
    ],
)
def test_a_topic_of_another_federation_is_nobodys(foreign: str) -> None:
    assert TOPICS.parse(foreign) is None


@pytest.mark.parametrize(
    "below",
    [
        "coordinator/",
        "coordinator/x",
        "model/",
        "model/0",
        "model/0/1/2",
        "model/-1/0",
        "model/01/0",
        "model/0/00",
        "model/0/1000000",
        "model/0/1 ",
        "model/0/1\n",
        "model/0/\u0663",
        "model/+/0",
        "model/#",
        "device",
        "device/",
        "device/+",
        "device/#",
        "device/+/up",
        "device/Camera",
        "device/camera_7",
        "device/camera\n",
        "device/caméra",
        "device//up",
        "device/camera/up/",
        "device/camera/sideways",
        "device/" + "x" * 41,
        "device/" + "x" * 41 + "/up",
        "elsewhere",
    ],
)
def test_what_no_one_may_build_is_not_parsed(below: str) -> None:
    assert TOPICS.parse(TOPICS.root + below) is None


@given(addresses)
@settings(deadline=None)
def test_no_topic_has_more_than_seven_slashes_or_256_bytes(address: Address) -> None:
    topic = build(LONGEST, address)
    assert topic.count("/") <= 7
    assert len(topic.encode()) <= 256


def test_the_topics_of_a_federation_read_like_the_plan() -> None:
    assert TOPICS.coordinator == "flockwise/default/coordinator"
    assert TOPICS.model == "flockwise/default/model"
    assert TOPICS.model_chunk(1, 20) == "flockwise/default/model/1/20"
    assert TOPICS.device("camera-7") == "flockwise/default/device/camera-7"
    assert TOPICS.up("camera-7") == "flockwise/default/device/camera-7/up"
    assert TOPICS.down("camera-7") == "flockwise/default/device/camera-7/down"
    assert TOPICS.csr("camera-7") == "flockwise/default/device/camera-7/csr"
    assert TOPICS.certificate("camera-7") == "flockwise/default/device/camera-7/certificate"


def test_every_place_has_its_rights_once() -> None:
    assert [right.place for right in RIGHTS] == list(Place)


def test_a_device_subscribes_to_its_own_and_to_what_every_device_reads() -> None:
    assert set(TOPICS.standing_filters("camera-7")) == {
        "flockwise/default/coordinator",
        "flockwise/default/model",
        "flockwise/default/device/camera-7",
        "flockwise/default/device/camera-7/down",
    }


def test_the_coordinator_subscribes_to_all_devices_and_to_its_own_presence() -> None:
    assert set(TOPICS.standing_filters()) == {
        "flockwise/default/coordinator",
        "flockwise/default/device/+",
        "flockwise/default/device/+/up",
    }


def test_the_authority_subscribes_to_requests_alone() -> None:
    assert TOPICS.authority_filters() == ("flockwise/default/device/+/csr",)


def test_standing_filters_are_made_from_the_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    only = Right(Place.UP, Role.COORDINATOR, frozenset({Role.THE_DEVICE}), retained=False)
    monkeypatch.setattr(federation.topics, "RIGHTS", (only,))
    assert TOPICS.standing_filters("a") == ("flockwise/default/device/a/up",)
    assert TOPICS.standing_filters() == ()


@given(ids)
@settings(deadline=None)
def test_no_filter_of_a_device_holds_a_wildcard(device: str) -> None:
    assert not set("+#") & set("".join(TOPICS.standing_filters(device)))


def test_a_wildcard_stands_only_for_a_device_and_never_for_what_the_coordinator_retains() -> None:
    wild = [f for f in TOPICS.standing_filters() if set("+#") & set(f)]
    retained_by_coordinator = [
        right.place.value for right in RIGHTS if right.retained and right.writer is Role.COORDINATOR
    ]
    for pattern in wild:
        form = pattern.removeprefix(TOPICS.root)
        assert form.startswith("device/+")
        assert form.replace("+", "{device}") not in retained_by_coordinator
