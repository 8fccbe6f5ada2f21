"""How long big values hold the event loop, beside another checkout of this repository.

A process for each value and place, in turn of both checkouts; the store is in memory. `hold` is the
longest time in which no other task got its turn, `cpu` the most processor time in such a one, which
tells on a busy machine what was ours.

    git worktree add ../base b3b91aa
    python benchmarks/holds.py --base ../base [--megabytes 20] [text dicts models …]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
KINDS = ("text", "dicts", "models")
PLACES = ("function", "effect", "output", "child", "argument", "tool", "input")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--megabytes", type=int, default=20)
    options = parser.parse_args()
    checkouts = {"crew": FOLDER.parent, **({"base": options.base} if options.base else {})}
    print(f"{'value':<8}{'as':<10}" + "".join(f"{_titles(name):<38}" for name in checkouts))
    for kind in options.kinds:
        for place in PLACES:
            found = [_figures(path, kind, place, options.megabytes) for path in checkouts.values()]
            print(f"{kind:<8}{place:<10}" + "".join(f"{item:<38}" for item in found), flush=True)


def _titles(name: str) -> str:
    return f"{name} hold ms  {name} cpu ms  {name} took s"


def _figures(checkout: Path, kind: str, place: str, megabytes: int) -> str:
    program = [sys.executable, str(FOLDER / "ours" / "holds.py"), kind, place, str(megabytes)]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(
        program, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:36]
    found = json.loads(done.stdout)
    return f"{found['hold_ms']:>12.0f}{found['cpu_ms']:>13.0f}{found['took_s']:>13.1f}"


if __name__ == "__main__":
    main()
