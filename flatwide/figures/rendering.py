"""Render charts in a separate process, because the renderer aborts its process if it gets too little memory."""

import base64
import functools
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LIBRARY = "library"  # instead of a format: the JavaScript that draws charts in a page
_MOST_SECONDS = 600.0  # charts of a large study take half a minute


class RenderingError(RuntimeError):
    """Rendering failed; the message gives the cause and a remedy."""


class Job(NamedTuple):
    """Rendering job: a Vega-Lite spec as "svg", "pdf" or "png", or the JavaScript library, which needs no spec."""

    kind: str
    spec: Mapping[str, Any]


def render(jobs: Sequence[Job]) -> list[bytes]:
    """Render charts without a browser, with the Vega-Lite version that Altair targets.

    Returns: the files, in the order of the jobs.
    Raises: RenderingError.
    Cost: one process, about 1 s for the first chart or the library, and 0.1 s for each further chart.
    """
    if not jobs:
        return []
    request = json.dumps({"version": _version(), "jobs": jobs}).encode()
    command = [sys.executable, "-m", "flatwide.figures.rendering"]
    try:
        # In a new session, so that Ctrl-C does not reach the renderer while this process writes a final report.
        done = subprocess.run(
            command, input=request, capture_output=True, timeout=_MOST_SECONDS, start_new_session=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RenderingError(f"The charts could not be drawn: {error}.") from error
    if done.returncode != 0:
        raise RenderingError(f"The charts could not be drawn: {_reason(done.returncode, done.stderr)}")
    return [base64.b64decode(content) for content in json.loads(done.stdout)]


@functools.cache
def library() -> str:
    """Bundle Vega, Vega-Lite and Vega-Embed from the installed package; cached per process.

    Raises: RenderingError.
    """
    return render([Job(LIBRARY, {})])[0].decode()


def _reason(code: int, errors: bytes) -> str:
    """Return how the process ended, and a remedy."""
    if code < 0:
        return (
            f"the renderer was killed by {signal.Signals(-code).name}, which usually means too little memory. It "
            "reserves more than 40 GB of address space, most of which it never uses: raise `ulimit -v`, or the memory "
            "of the job, and write the report again."
        )
    return errors.decode(errors="replace").strip()[-300:] or f"exit code {code}"


def _version() -> str:
    import altair

    return ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _draw(kind: str, spec: Mapping[str, Any], version: str) -> bytes:
    import vl_convert

    if kind == LIBRARY:
        return vl_convert.javascript_bundle(vl_version=version).encode()  # pyright: ignore[reportCallIssue]: its stub is too strict
    png = functools.partial(vl_convert.vegalite_to_png, scale=2)
    convert = {"svg": vl_convert.vegalite_to_svg, "pdf": vl_convert.vegalite_to_pdf, "png": png}[kind]
    drawn = convert(spec, vl_version=version)
    return drawn.encode() if isinstance(drawn, str) else drawn


def main() -> None:
    """Read jobs from standard input, render them, and write the results to standard output."""
    request = json.load(sys.stdin)
    try:
        drawn = [_draw(kind, spec, request["version"]) for kind, spec in request["jobs"]]
    except Exception as error:
        sys.exit(" ".join(str(error).split())[:300])
    json.dump([base64.b64encode(content).decode() for content in drawn], sys.stdout)


if __name__ == "__main__":
    main()
