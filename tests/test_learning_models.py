"""The built-in models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from config.failures import Failure
from learning.models import MODELS, build_model
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_the_tutorial_cnn_has_62006_parameters() -> None:
    assert count(build_model("tutorial-cnn")) == 62_006


def test_the_fast_cnn_has_156170_parameters() -> None:
    assert count(build_model("fast-cnn")) == 156_170


@pytest.mark.parametrize("name", MODELS)
def test_a_model_holds_parameters_only_all_of_them_float32(name: str) -> None:
    model = build_model(name)
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_a_logit_for_each_class_also_for_a_single_image(name: str) -> None:
    model = build_model(name, classes=7).train()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    model = build_model(name).train()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (build_model("fast-cnn", seed=seed) for seed in (3, 3, 4))
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(left, right) for left, right in pairs)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_building_a_model_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_model("fast-cnn")
    assert torch.equal(torch.rand(1), expected)


def test_an_unknown_model_is_told_with_the_known_ones() -> None:
    with pytest.raises(Failure, match=r"'resnet'.*fast-cnn, tutorial-cnn"):
        build_model("resnet")
