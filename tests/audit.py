"""Are there known vulnerabilities in what is installed? `python -m tests.audit`, by pip-audit.

pip-audit ends with 0 though it could look nothing up, as behind a mirror that knows no advisories.
Here what was not audited counts as not audited: 0 is for an audit that found nothing, 1 for
vulnerabilities, 75 (as in sysexits.h: try again later) if nothing could be looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

COMMAND = (sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off")
OURS = "flockwise"
FOUND, NOT_AUDITED = 1, 75
PATIENCE_S = 600


def main(run: Callable[[], subprocess.CompletedProcess[str]] | None = None) -> int:
    """Audit, and say what came of it."""
    try:
        done = (run or _run)()
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _not_audited(f"no answer in {PATIENCE_S} s")
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it printed no report"])[-1]
        return _not_audited(last[:300])
    audited = [one for one in packages if "vulns" in one]
    skipped = sorted(one["name"] for one in packages if "vulns" not in one and one["name"] != OURS)
    for one in audited:
        for fault in one["vulns"]:
            print(f"{one['name']} {one['version']}: {_as_line(fault)}")
    if not audited:
        return _not_audited(f"none of {len(skipped)} packages could be looked up")
    print(f"audit: {len(audited)} packages looked up")
    if skipped:
        print(f"audit: not looked up: {', '.join(skipped)}")
    return FOUND if any(one["vulns"] for one in audited) else 0


def _run() -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def _as_line(fault: dict[str, Any]) -> str:
    mended = ", ".join(fault.get("fix_versions", ())) or "no version"
    return f"{fault.get('id', 'unknown')}, mended in {mended}"


def _not_audited(why: str) -> int:
    print(f"audit: NOT DONE: {why}; it asks pypi.org for advisories, so run it where that answers")
    return NOT_AUDITED


if __name__ == "__main__":
    sys.exit(main())
