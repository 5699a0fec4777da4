"""What W&B is told of each row: curves on their axes, tables, artifacts, alerts.

`wandb` and its run are handed in: `coordinator.wandb_sink` alone imports it.
"""

from __future__ import annotations

import logging
from typing import Any

from config.logs import facts
from config.reporting import Reporting
from coordinator.alarms import Alarms
from coordinator.curves import Curves, Shown
from coordinator.lineage import Kept, Lineage
from coordinator.reporting import ODD_ROW, Row
from coordinator.sources import Sources

log = logging.getLogger(__name__)

# Curves lie over the version; over the time they can be drawn, too, as each row has both.
AXES = ("version", "time_s")
BY_VERSION = ("global/*", "on_device/*", "recall/*", "device/*")
SUMMARIES = {
    "global/accuracy": "max,last",
    "global/loss": "min,last",
    "global/worst_recall": "max,last",
    "on_device/accuracy_mean": "max,last",
    "on_device/accuracy_worst_decile": "max,last",
}
# W&B's own chart of a confusion matrix, as `wandb.plot.confusion_matrix` makes it of examples.
CONFUSION_CHART = "wandb/confusion_matrix/v1"
CONFUSION_FIELDS = ("Actual", "Predicted", "nPredictions")
MODEL_FILE = "model.safetensors"
# A step for each row, and one after it for what is told at the end of a start.
STEPS_A_ROW = 2


class RowLog:
    """Logs the rows of one run, in order; steps go on where the rows of an earlier start end."""

    def __init__(
        self, wandb: Any, run: Any, run_id: str, reporting: Reporting, sources: Sources
    ) -> None:
        self._wandb = wandb
        self._run = run
        self._run_id = run_id
        self._reporting = reporting
        self._sources = sources
        self._curves = Curves()
        self._alarms = Alarms(reporting.alert_fall)
        self._lineage = Lineage(reporting.artifacts, run_id)
        self._step = 0
        self._tests = 0
        self._untold: Row | None = None
        self._has_data = False

    def begin(self) -> None:
        """Define the axes; take up what earlier starts have told."""
        for name in AXES:
            self._run.define_metric(name, hidden=True, summary="max")
        for name in BY_VERSION:
            self._run.define_metric(name, step_metric="version")
        for name, summary in SUMMARIES.items():
            self._run.define_metric(name, step_metric="version", summary=summary)
        for row in self._sources.earlier():
            self._step += STEPS_A_ROW
            try:
                self._curves.take(row)
                self._alarms.take(row)
                self._lineage.take(row)
            except ODD_ROW:
                continue
            self._tests += row["kind"] == "evaluation"
        self._alarms.begin()
        self._lineage.begin()
        # An online run is where its server says, if that is further on.
        self._step = max(self._step, int(self._run.step))

    def take(self, row: Row) -> None:
        """Log one row."""
        shown = self._curves.take(row)
        values = {} if shown is None else self._values(shown)
        if row["kind"] == "evaluation":
            values |= self._tables(row)
        if values:
            self._run.log(values, step=self._step, commit=True)
        self._step += STEPS_A_ROW
        if (alarm := self._alarms.take(row)) is not None:
            level = self._wandb.AlertLevel.WARN
            self._run.alert(title=alarm.title, text=alarm.text, level=level)
        if (kept := self._lineage.take(row)) is not None:
            self._keep(kept)

    def close(self) -> None:
        """Show the last test in full, and keep the last version."""
        if self._untold is not None:
            row, self._untold = self._untold, None
            if shown := self._shown(row):
                values = {"version": row["version"], "time_s": row["time_s"], **shown}
                self._run.log(values, step=self._step - STEPS_A_ROW + 1, commit=True)
        if (kept := self._lineage.close()) is not None:
            self._keep(kept)

    def _values(self, shown: Shown) -> dict[str, Any]:
        histograms = {
            name: self._wandb.Histogram(np_histogram=(list(made.counts), list(made.edges)))
            for name, made in shown.histograms.items()
        }
        axes = {"version": shown.version, "time_s": shown.time_s}
        return {**axes, **shown.scalars, **histograms}

    # Tables

    def _tables(self, row: Row) -> dict[str, Any]:
        """The tables of a test, if it is their turn; else they may be the last."""
        every = self._reporting.tables_every
        if every is None:
            return {}
        self._tests += 1
        its_turn = (self._tests - 1) % every == 0
        self._untold = None if its_turn else row
        return self._shown(row) if its_turn else {}

    def _shown(self, row: Row) -> dict[str, Any]:
        classes = row.get("classes", [])
        shown: dict[str, Any] = {}
        if "confusion" in row:
            shown["confusion_matrix"] = self._confusion(row["confusion"], classes)
        if "samples" in row:
            shown["predictions"] = self._predictions(row, classes)
        return shown

    def _confusion(self, matrix: list[list[int]], classes: list[str]) -> Any:
        cells = [
            [truth, guess, count]
            for truth, counts in zip(classes, matrix, strict=True)
            for guess, count in zip(classes, counts, strict=True)
        ]
        return self._wandb.plot_table(
            vega_spec_name=CONFUSION_CHART,
            data_table=self._wandb.Table(columns=list(CONFUSION_FIELDS), data=cells),
            fields={name: name for name in CONFUSION_FIELDS},
            string_fields={"title": "Confusion matrix"},
        )

    def _predictions(self, row: Row, classes: list[str]) -> Any:
        samples = row["samples"]
        images = self._images(samples["index"])
        columns = ["version", "index", "truth", "guess", "confidence", "right"]
        parts = (samples[name] for name in ("index", "truth", "guess", "confidence"))
        lines = [
            [row["version"], index, classes[truth], classes[guess], sure, truth == guess]
            for index, truth, guess, sure in zip(*parts, strict=True)
        ]
        if images is None:
            return self._wandb.Table(columns=columns, data=lines)
        pictured = [[image, *line] for image, line in zip(images, lines, strict=True)]
        return self._wandb.Table(columns=["image", *columns], data=pictured)

    def _images(self, indices: list[int]) -> list[Any] | None:
        try:
            import PIL.Image  # noqa: F401, PLC0415 - W&B makes images with it
        except ImportError:
            return None
        pixels = self._sources.images(indices)
        if pixels is None:
            return None
        return [self._wandb.Image(image.transpose(1, 2, 0)) for image in pixels]

    # Artifacts

    def _keep(self, kept: Kept) -> None:
        path = self._sources.checkpoint(kept.version)
        if path is None:
            return
        self._declare_data()
        model = self._wandb.Artifact(f"model-{self._run_id}", "model", metadata=kept.facts)
        try:
            model.add_file(str(path), name=MODEL_FILE)
        except (OSError, ValueError) as error:  # it was deleted meanwhile, or there is no room
            log.info("version not kept as an artifact", extra=facts(why=str(error)))
            return
        self._run.log_artifact(model, aliases=list(kept.aliases))

    def _declare_data(self) -> None:
        """Say on what the versions are tested: by the digest of the file, which stays here."""
        path = self._sources.test_set
        if path is None or self._has_data:
            return
        self._has_data = True
        data = self._wandb.Artifact(f"test-set-{self._run_id}", "dataset")
        try:
            data.add_reference(path.resolve().as_uri(), checksum=True)
        except (OSError, ValueError) as error:
            log.info("test set not declared", extra=facts(why=str(error)))
            return
        try:
            # As `use_artifact` does it, which waits for the network, and refuses while offline.
            self._run._log_artifact(data, is_user_created=True, use_after_commit=True)
        except (AttributeError, TypeError):  # another version of wandb
            self._run.log_artifact(data)
