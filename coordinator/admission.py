"""Whether an offered update is welcome: decided from a few hundred bytes, before megabytes move."""

from __future__ import annotations

from collections.abc import Collection

from coordinator.vocabulary import VersionInfo
from federation.messages import Offer, Reason
from federation.sizes import CodecError, sealed_size, size_bounds


def objection(
    offer: Offer,
    ledger: bytes,
    current: VersionInfo,
    next_version: int,
    max_staleness: int,
    seals: Collection[bytes] = (),
) -> tuple[Reason, str] | None:
    """Why an offer is refused for good, and the detail of it; None if it is welcome.

    Any codec is, not only that of the plan: what was learned before the plan was changed is worth
    as much as ever, and each update is decoded by the codec that it names.

    Args:
        ledger: identity of this federation's ledger; another one's versions are unknown here.
        current: the current version.
        next_version: the version that the update could enter at the earliest is made of this one.
        seals: the names of the keys to which updates may be sealed; none where nothing is.
    """
    if offer.ledger != ledger or offer.base_version > current.version:
        return Reason.UNKNOWN_BASE, f"version {offer.base_version} is not of this ledger"
    staleness = next_version - offer.base_version
    if staleness > max_staleness:
        return Reason.STALE, f"missed {staleness} versions, at most {max_staleness} are allowed"
    try:
        least, most = size_bounds(offer.codec, current.layout.size)
    except CodecError as error:
        return Reason.BAD_SHAPE, str(error)
    if seals and offer.seal not in seals:
        how = "for a key that this coordinator does not have" if offer.seal else "for nobody"
        return Reason.BAD_SEAL, f"it is sealed {how}"
    if offer.seal and not seals:
        return Reason.BAD_SEAL, "it is sealed, and this coordinator has no key"
    if offer.seal:
        least, most = sealed_size(least), sealed_size(most)
    if not least <= offer.payload.size <= most:
        expected = f"{most}" if least == most else f"at most {most}"
        return (
            Reason.BAD_SHAPE,
            f"{offer.payload.size} bytes, but {current.layout.size} elements in "
            f"{offer.codec} are {expected}",
        )
    return None
