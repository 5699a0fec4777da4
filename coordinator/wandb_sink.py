"""Reports to Weights & Biases; nothing else imports wandb, and nothing depends on its success."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from config.reporting import Reporting
from coordinator.reporting import Row
from coordinator.sink_thread import SinkThread
from coordinator.sources import NOTHING, Sources
from coordinator.wandb_rows import RowLog

# W&B keeps rows in memory for 15 seconds, and a process may be killed at any time.
FLUSH_S = 2.0
_OURS: set[str] = set()


class WandbSink:
    """One run of Weights & Biases, online if there is a key, else offline."""

    def __init__(
        self,
        reporting: Reporting,
        config: Mapping[str, Any],
        directory: Path,
        run_id: str,
        sources: Sources = NOTHING,
        close_s: float | None = None,
    ) -> None:
        """Begin the run, or go on with it.

        Args:
            config: the run's configuration, as JSON; without secrets.
            directory: where W&B's folder `wandb` is made.
            run_id: of at most 64 characters; the same one goes on with the same run.
            sources: what is looked up for artifacts and images.
            close_s: how long it may take to end (None: as long as a coordinator can spare).
        """
        self._reporting = reporting
        self._config = dict(config)
        self._directory = directory
        self._run_id = run_id
        self._sources = sources
        self._thread = SinkThread("wandb", self._log_rows, close_s=close_s)

    def write(self, row: Row) -> None:
        """Take one row."""
        self._thread.write(row)

    def close(self) -> None:
        """Let wandb finish, for a while."""
        self._thread.close()

    def _log_rows(self, rows: Iterator[Row]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        _keep_data_in(self._directory / "wandb" / "data")
        import wandb  # noqa: PLC0415 - a second of imports that a federation need not wait for

        reporting = self._reporting
        run = wandb.init(
            project=reporting.project,
            group=reporting.group,
            job_type=reporting.job_type,
            name=reporting.run_name,
            tags=_tags(reporting.tags),
            id=self._run_id,
            resume="allow",
            mode=effective_mode(reporting.wandb),
            dir=self._directory,
            config=self._config,
            settings=_settings(wandb),
        )
        log = RowLog(wandb, run, self._run_id, reporting, self._sources)
        log.begin()
        for row in rows:
            log.take(row)
        log.close()
        run.finish()


def _settings(wandb: Any) -> Any:
    asked: dict[str, Any] = {"console": "off", "init_timeout": 30}
    known = getattr(wandb.Settings, "model_fields", {})
    if "x_transaction_log_flush_interval" in known:  # since 0.31
        asked["x_transaction_log_flush_interval"] = FLUSH_S
        # Else a run that takes long to end would be given the rows of the next in this process.
        asked["reinit"] = "create_new"
    return wandb.Settings(**asked)


def _keep_data_in(folder: Path) -> None:
    """Have artifacts wait for their upload beside the run, not at home, unless told where."""
    name = "WANDB_DATA_DIR"
    if os.environ.get(name, "") in ("", *_OURS):
        os.environ[name] = str(folder.absolute())
        _OURS.add(os.environ[name])


def _tags(tags: str | None) -> list[str] | None:
    return [tag for part in tags.split(",") if (tag := part.strip())] if tags else None


def effective_mode(setting: str) -> Any:
    """What a setting comes to here: auto is online where there is a key, else offline."""
    if setting != "auto":
        return setting
    return "online" if has_key() else "offline"


def has_key() -> bool:
    """Whether there is a key for wandb, in the environment or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
