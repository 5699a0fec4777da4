"""Every codec between real roles: what is learned arrives, both ways, and replay finds it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.failures import ExitCode
from coordinator.replaying import main as replay
from federation.compression import CODECS
from federation.sizes import PLAIN_CODECS, encoded_size, plain
from tests.processes import a_broker, a_chunk, a_coordinator, an_agent

D = 62_006


@pytest.mark.parametrize(
    ("codec", "model_codec"), [*((codec, "bf16") for codec in CODECS), ("int4+zlib", "int8")]
)
def test_a_federation_learns_in_any_codec_and_is_replayed_bit_for_bit(
    tmp_path: Path, codec: str, model_codec: str
) -> None:
    state = tmp_path / "coordinator"
    with (
        a_broker("auto", tmp_path / "broker") as broker,
        a_coordinator(
            broker,
            state,
            versions=3,
            training={"model": "tutorial-cnn", "codec": codec, "epochs": 0.5},
            transfer={"model_codec": model_codec},
            aggregation={"buffer_size": 1, "reanchor": True, "cooldown": 0},
        ) as coordinator,
        an_agent(broker, tmp_path / "a", a_chunk(tmp_path / "a.npz", 1), "one") as one,
        an_agent(broker, tmp_path / "b", a_chunk(tmp_path / "b.npz", 2), "two") as two,
    ):
        assert coordinator.end() == ExitCode.OK, coordinator.raw
        assert one.stop() == two.stop() == ExitCode.OK
    sizes = {line["bytes"] for line in coordinator.told("version published")}
    assert sizes == {encoded_size(model_codec, D)}
    stored = [path.stat().st_size for path in (state / "spool").iterdir()]
    assert stored
    if codec in PLAIN_CODECS:
        assert set(stored) == {encoded_size(plain(codec), D)}
    assert replay(["--state-dir", str(state)]) == ExitCode.OK
