"""The section of the settings that says how a set of images is cut into the data of devices."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from config.values import Section

PartitionKind = Literal["iid", "dirichlet", "shards", "quantity", "power_law"]

# The settings that are of some kinds only.
OF_KINDS: dict[str, tuple[PartitionKind, ...]] = {
    "alpha": ("dirichlet", "quantity"),
    "balanced": ("dirichlet",),
    "labels_per_device": ("shards",),
    "exponent": ("power_law",),
}


class Partition(Section):
    """Who gets which images: how labels, amounts and looks differ from device to device."""

    kind: PartitionKind = Field(
        default="iid",
        description="iid: even and at random; dirichlet: each label divided by shares of"
        " Dirichlet(alpha); shards: labels_per_device labels each; quantity: sizes by"
        " Dirichlet(alpha); power_law: sizes fall with the number of the device",
    )
    alpha: float = Field(
        default=0.5,
        gt=0,
        le=1e6,
        description="evenness of the shares of dirichlet and quantity: 100 is nearly even; by label"
        " 0.1 leaves a device with two or three",
    )
    balanced: bool = Field(
        default=False,
        description="dirichlet: a device that has its even share gets nothing of the labels to come"
        " (as NIID-Bench draws)",
    )
    labels_per_device: int = Field(
        default=2, ge=1, le=1000, description="shards: labels that a device has (#C of NIID-Bench)"
    )
    exponent: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="power_law: device r, from 1, has a share that goes with 1 / r^exponent",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="with any kind: device i of N gets Gaussian noise of this times i / N on its"
        " images, standard deviation, 1 being full brightness",
    )
    held_out: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of its images that a device tests on, the labels in proportion",
    )

    @model_validator(mode="after")
    def _fit_the_kind(self) -> Self:
        for name, kinds in OF_KINDS.items():
            if self.kind not in kinds and getattr(self, name) != self._default(name):
                raise ValueError(f"{name} is for kind {' or '.join(kinds)}, not {self.kind}")
        return self

    def numbers(self) -> dict[str, str | float | bool]:
        """What decides this partition: the settings that its kind makes use of."""
        return {
            name: value
            for name, value in self.model_dump().items()
            if self.kind in OF_KINDS.get(name, (self.kind,))
        }

    def in_words(self) -> str:
        """How the images are cut, for titles and tables: `by Dirichlet(0.3)`."""
        match self.kind:
            case "iid":
                cut = "evenly"
            case "dirichlet":
                cut = f"by Dirichlet({self.alpha:g})" + (", balanced" if self.balanced else "")
            case "shards":
                plural = "" if self.labels_per_device == 1 else "s"
                cut = f"into shards, {self.labels_per_device} label{plural} a device"
            case "quantity":
                cut = f"in sizes by Dirichlet({self.alpha:g})"
            case "power_law":
                cut = f"in sizes by a power law, exponent {self.exponent:g}"
        return cut + (f", noise up to {self.noise:g}" if self.noise else "")

    @classmethod
    def _default(cls, name: str) -> object:
        return cls.model_fields[name].default
