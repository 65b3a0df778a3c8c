"""The pull from the Materials Project against stand-in servers on this machine: time and memory.

    python benchmarks/materials_project.py --materials 20000 --calls 200

The servers are those of the tests (REST, and a Delta table on moto's S3) without any network delay,
so this flatters one request per material, which would wait for the network every time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def bulk() -> dict[str, float]:
    """Pull everything, then once more from disk; memory is that of this process at its peak."""
    from mp_api.client import MPRester  # noqa: F401

    from hclmp.config import DosConfig
    from hclmp.sources.materials_project.read import read_dos

    config = DosConfig(source="materials_project")
    imported, start = _peak(), time.monotonic()
    pulled = read_dos(config)
    pull = time.monotonic() - start
    start = time.monotonic()
    read_dos(config)
    raw = sum(path.stat().st_size for path in Path("data/raw").rglob("*") if path.is_file())
    return {
        "materials": len(pulled.material_id),
        "pull, s": pull,
        "again from disk, s": time.monotonic() - start,
        "peak memory, MB": _peak(),
        "peak memory after imports, MB": imported,
        "raw download, MB": raw / 1e6,
    }


def single(calls: int) -> dict[str, float]:
    """The client's own call per material, for the first so many materials."""
    from hclmp.sources.materials_project.client import connect
    from tests.made_up.materials_project import alpha

    client = connect().materials.electronic_structure_dos
    client.get_dos_from_material_id(alpha(99 + 1, "mp"))  # opens the table
    start = time.monotonic()
    for i in range(calls):
        client.get_dos_from_material_id(alpha(100 + i, "mp"))
    return {"calls": calls, "s": time.monotonic() - start, "peak memory, MB": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--materials", type=int, default=20_000)
    options.add_argument("--energies", type=int, default=2001)
    options.add_argument("--files", type=int, default=20, help="commits of the table")
    options.add_argument("--calls", type=int, default=200)
    options.add_argument("--child", choices=["bulk", "single"])
    chosen = options.parse_args()
    if chosen.child:
        print(json.dumps(bulk() if chosen.child == "bulk" else single(chosen.calls)))
        return
    from tests.made_up.materials_project_servers import start

    sizes = {name: str(getattr(chosen, name)) for name in ("materials", "energies", "files")}
    process, servers = start(*(part for name in sizes for part in (f"--{name}", sizes[name])))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for child in ("bulk", "single"):
            servers.control(reset=True)
            command = [sys.executable, __file__, "--child", child, "--calls", str(chosen.calls)]
            env = os.environ | servers.environment
            answer = subprocess.run(
                command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True
            )
            seen = servers.control()
            found[child] = json.loads(answer.stdout) | {
                "REST requests": len(seen["rest"]),
                "S3 requests": len(seen["s3"]),
                "read from S3, MB": seen["sent"] / 1e6,
            }
    process.communicate(timeout=60)
    each = found["single"]["s"] / found["single"]["calls"]
    ratio = each / (found["bulk"]["pull, s"] / found["bulk"]["materials"])
    print(json.dumps(found | {"per material, single over bulk": ratio}, indent=1))


if __name__ == "__main__":
    main()
