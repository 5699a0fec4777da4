"""What the rows of a run add up to, told in the row of each version. Pure."""

from __future__ import annotations

from typing import Any

from coordinator.on_device import OnDevice


class Tally:
    """Bytes that were taken in, and how good devices find the model."""

    def __init__(self) -> None:
        self._bytes_up = 0
        self._on_device = OnDevice()

    def take(self, row: dict[str, Any]) -> dict[str, Any]:
        """Count a row; that of a version comes back with the sums.

        `bytes_up` are those of all accepted updates so far, before they were opened; `on_device`
        is absent until a device has told an accuracy.
        """
        match row["kind"]:
            case "update":
                self._bytes_up += int(row["bytes"])
                self._on_device.told(row["device"], row["metrics"])
            case "quarantine" if row["quarantined"]:
                self._on_device.forget(row["device"])
            case "version":
                figures = self._on_device.figures()
                told = {} if figures is None else {"on_device": figures}
                return {**row, "bytes_up": self._bytes_up, **told}
        return row
