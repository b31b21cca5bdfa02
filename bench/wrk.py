"""
Load by wrk, where that is installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

#: Requests take turns; what comes of it is a line of JSON.
_SCRIPT = """
local requests = {%s}
local n = 0
function request() n = n %% #requests + 1; return requests[n] end
function response(status) if status ~= %d then failures = failures + 1 end end
failures = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency)
  local wrong = 0
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("failures") end
  local errors = summary.errors
  wrong = wrong + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '\\n{"requests": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, "failures": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6, wrong))
end
"""


@cache
def isThere() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def run(wish: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a wish to L{bench.load} says, which must be one for some seconds."""
    # Lua's long strings would have \n for each \r\n.
    requests = ", ".join(json.dumps(one) for one in wish["requests"])
    with tempfile.NamedTemporaryFile("w", suffix=".lua", newline="") as script:
        script.write(_SCRIPT % (requests, wish["expect"]))
        script.flush()
        done = subprocess.run(
            ["wrk", "-t1", f"-c{wish['connections']}", f"-d{max(1, round(wish['seconds']))}s",
             "-s", script.name, f"http://127.0.0.1:{wish['port']}/"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    rate = result["requests"] / result["seconds"]
    return {**result, "rate": rate, "failure": "see wrk"}
