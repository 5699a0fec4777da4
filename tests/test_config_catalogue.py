"""The catalogue says of each setting what its model says."""

import pytest

from config.catalogue import Kind, Setting, catalogue, nearest
from config.settings import ROLES, AgentSettings, CoordinatorSettings, Settings


def find(role: type[Settings], key: str) -> Setting:
    found = catalogue(role).find(tuple(key.split(".")))
    assert found is not None, key
    return found


def test_a_setting_has_three_spellings() -> None:
    keepalive = find(AgentSettings, "link.keepalive_s")
    assert keepalive.key == "link.keepalive_s"
    assert keepalive.option == "--link-keepalive-s"
    assert keepalive.variable == "FLOCKWISE_LINK__KEEPALIVE_S"


@pytest.mark.parametrize("role", ROLES)
def test_no_two_settings_of_a_role_share_a_spelling(role: type[Settings]) -> None:
    settings = catalogue(role).settings
    assert len({one.option for one in settings}) == len(settings)
    assert len({one.variable for one in settings}) == len(settings)


def test_settings_of_the_role_come_before_those_of_its_sections() -> None:
    sections = [setting.section for setting in catalogue(CoordinatorSettings).settings]
    assert sections.index("federation") == sections.count("")


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("link.port", "an integer from 1 to 65535"),
        ("link.give_up_after_s", "a number above 0, or none"),
        ("link.tls", "true or false"),
        ("evaluate_every", "an integer of at least 1"),
        ("aggregation.fraction", "a number above 0, up to 1"),
        ("aggregation.beta1", "a number of at least 0, below 1"),
        ("strategy", "one of fedbuff, fedavg, fedasync, memory"),
        ("federation.name", "1 to 40 characters of a-z, 0-9 and -"),
        ("test_set", "a path, or none"),
    ],
)
def test_what_is_allowed_is_said_in_words(key: str, allowed: str) -> None:
    assert find(CoordinatorSettings, key).allowed == allowed


def test_a_password_is_a_secret() -> None:
    assert find(AgentSettings, "link.password").kind is Kind.SECRET


def test_only_what_has_no_default_is_required() -> None:
    required = [setting.key for setting in catalogue(AgentSettings).settings if setting.required]
    assert required == ["device", "chunk"]


def test_a_slip_is_corrected() -> None:
    assert nearest("link.prt", ["link.port", "link.host"]) == "; did you mean link.port?"


def test_a_setting_that_lost_its_section_is_found() -> None:
    assert nearest("port", ["link.port", "link.host"]) == "; did you mean link.port?"


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert nearest("zebra", ["link.port", "link.host"]) == ""
