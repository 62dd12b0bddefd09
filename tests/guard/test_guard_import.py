"""What an agent's process pays for the guard: OpenTelemetry's API and the standard library, nothing else until a hook is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

LOADED = """
import json, sys, time
before = set(sys.modules)
import otel_ir.guard
guard = otel_ir.guard.install(endpoint="http://127.0.0.1:1", cache=False)
after = {name.partition(".")[0] for name in set(sys.modules) - before} | {name for name in sys.modules if name.startswith("opentelemetry")}
print(json.dumps(sorted(after - sys.stdlib_module_names)))
guard.close()
"""


def test_importing_and_installing_loads_only_the_api() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOADED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    own = {name.partition(".")[0] for name in loaded}
    assert own <= {"otel_ir", "opentelemetry", "typing_extensions", "importlib_metadata", "zipp", "_distutils_hack"}, own
    assert not {name for name in loaded if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))}
