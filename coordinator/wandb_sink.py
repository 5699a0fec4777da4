"""Reports to Weights & Biases; nothing else imports wandb, and nothing depends on its success.

wandb runs in a thread of its own behind a bounded queue, so that neither its start, nor its
network, nor a fault of it, holds a federation up: the first fault is told once and ends the sink.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from config.logs import facts
from config.settings import CoordinatorSettings

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
CLOSE_S = 20.0


class WandbSink:
    """One run of Weights & Biases, online if there is a key, else offline."""

    def __init__(self, settings: CoordinatorSettings, directory: Path, run_id: str) -> None:
        self._settings = settings
        self._directory = directory
        self._run_id = run_id
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(MAX_WAITING)
        self._alive = True
        self._thread = threading.Thread(target=self._run, name="wandb", daemon=True)
        self._thread.start()

    def write(self, row: dict[str, Any]) -> None:
        """Take one row; dropped if wandb has failed or is far behind."""
        if self._alive:
            try:
                self._rows.put_nowait(row)
            except queue.Full:
                log.warning("wandb is far behind, a row was dropped; the JSONL file has it")

    def close(self) -> None:
        """Let wandb finish, for a while."""
        if not self._alive:
            return
        end_s = time.monotonic() + CLOSE_S
        with suppress(queue.Full):
            self._rows.put(None, timeout=CLOSE_S)
            self._thread.join(max(0.0, end_s - time.monotonic()))

    def _run(self) -> None:
        try:
            self._log_rows()
        except ImportError:
            log.info("wandb is not installed; reports go to the JSONL file only")
        except Exception as error:  # whatever wandb fails with, the federation goes on
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("wandb failed; reports go on in the JSONL file", extra=facts(why=reason))
        finally:
            self._alive = False

    def _log_rows(self) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb  # noqa: PLC0415 - a second of imports that a federation need not wait for

        reporting = self._settings.reporting
        run = wandb.init(
            project=reporting.project,
            group=reporting.group,
            name=reporting.run_name,
            id=self._run_id,
            resume="allow",
            mode=_mode(reporting.wandb),
            dir=self._directory,
            config=self._settings.model_dump(mode="json", exclude={"link", "reporting"}),
            settings=wandb.Settings(console="off", init_timeout=30),
        )
        run.define_metric("version")
        run.define_metric("global/*", step_metric="version")
        run.define_metric("device/*", step_metric="version")
        while (row := self._rows.get()) is not None:
            run.log(scalars(row))
        run.finish()


def scalars(row: dict[str, Any]) -> dict[str, float]:
    """A row as W&B scalars: `global/...` of a version, `device/<id>/...` of an update."""
    match row["kind"]:
        case "evaluation":
            skip = {"kind", "version", "time_s"}
            values = {f"global/{k}": v for k, v in row.items() if k not in skip}
            return {"version": row["version"], "global/time_s": row["time_s"], **values}
        case "version":
            staleness = row["staleness"]
            return {
                "version": row["version"],
                "global/updates": row["updates"],
                "global/mean_staleness": sum(staleness) / max(1, len(staleness)),
            }
        case "update":
            device = f"device/{row['device']}"
            shown = ("staleness", "examples", "steps", "train_s", "bytes", "norm")
            return {
                "version": row["base_version"],
                **{f"{device}/{key}": row[key] for key in shown},
                **{f"{device}/{key}": value for key, value in row["metrics"].items()},
            }
        case "refusal":
            return {"version": row["base_version"], f"device/{row['device']}/refused": 1.0}
        case "quarantine":
            name = f"device/{row['device']}/quarantined"
            return {"version": row["version"], name: float(row["quarantined"])}
    return {}


def _mode(setting: str) -> Any:
    if setting != "auto":
        return setting
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    """Whether there is a key for wandb, in the environment or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
