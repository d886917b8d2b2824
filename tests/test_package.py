"""What `import vizecg` offers."""

import subprocess
import sys
from pathlib import Path


def test_the_package_loads_a_model_without_ray(bundle_folder: Path, pages: list[bytes]) -> None:
    script = (
        "import sys, vizecg; model = vizecg.load(sys.argv[1]); "
        "print(sorted(model.predict(sys.stdin.buffer.read())), 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bundle_folder)], input=pages[0], capture_output=True)
    labels = ["1dAVb", "AF", "LBBB", "NORM", "RBBB", "SB", "ST"]
    assert done.stdout.decode().strip() == f"{labels} False"
