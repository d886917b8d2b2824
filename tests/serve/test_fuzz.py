"""Whatever is sent: an answer that the OpenAPI document knows, never a fault of ours, soon, in bounded memory.

`make chaos`; VIZECG_UPLOADS says how many hostile uploads, 5,000 where it is not set.
"""

import io
import os
import random
import runpy
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

pytestmark = pytest.mark.chaos

files = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "dicom_files.py")))

UPLOADS = int(os.environ.get("VIZECG_UPLOADS", "5000"))
SLOWEST_S = 20.0
GROWTH_MIB = 400
"""One picture of 64 million pixels takes 300 MiB while it is decoded."""
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)


def test_the_openapi_document_holds_whatever_is_sent(endpoint: str, tmp_path: Path):
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{endpoint}/openapi.json", "--checks", CHECKS,
        "--max-examples", "60", "--seed", "0", "--request-timeout", "30", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, cwd=tmp_path)  # It leaves files there.
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def samples(pages: list[bytes]) -> list[bytes]:
    """A page in every format that is read, and every kind of DICOM file."""
    picture = Image.open(io.BytesIO(pages[0])).convert("RGB")
    made = [pages[0]]
    for kind in ("JPEG", "BMP", "TIFF", "WEBP", "GIF", "PDF"):
        file = io.BytesIO()
        picture.resize((320, 240)).save(file, kind)
        made.append(file.getvalue())
    pixels = np.asarray(picture.resize((320, 240)))
    signal_mv = np.random.default_rng(0).normal(0, 0.3, (12, 1000))
    dicom = files.captured(pixels), files.document(pixels), files.waveform(files.group_of(signal_mv, 100))
    return made + [files.data_of(each) for each in dicom]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 4, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _head_changed(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(4):
        changed[rng.randrange(min(64, len(changed)))] = rng.choice((0, 1, 127, 128, 255))
    return bytes(changed)


def _spliced(data: bytes, rng: random.Random) -> bytes:
    start, stop = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:stop] + data[start:stop] * rng.choice((1, 3)) + data[stop:]


def _noise(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((2, 4, 8, 16))] + rng.randbytes(rng.choice((0, 100, 10_000)))


CHANGES: list[Callable[[bytes, random.Random], bytes]] = [_cut, _flipped, _head_changed, _spliced, _noise]


def send(client: httpx.Client, body: bytes, rng: random.Random) -> httpx.Response:
    way = rng.random()
    if way < 0.6:
        return client.post("/v1/predict", content=body, params=rng.choice(({}, {"page_image": "true"}, {"page": "2"})))
    if way < 0.8:
        return client.post("/v1/predict:batch", files=[("images", ("\x00../x.png", body)), ("images", (None, body))])
    if way < 0.9:
        head = rng.choice((b"--b\r\n", b'--b\r\nContent-Disposition: form-data; name=image; filename="x"\r\n\r\n'))
        content_type = rng.choice(
            ("multipart/form-data; boundary=b", "multipart/form-data; boundary=c", "multipart/form-data")
        )
        return client.post("/v1/predict", content=head + body, headers={"Content-Type": content_type})
    return client.post(
        "/v1/predict", content=body, headers={"Content-Type": rng.choice(("image/png", "text/html", "a"))}
    )


def replica_memory_mib() -> float:
    found = [p for p in psutil.process_iter(["cmdline"]) if "PageReader" in " ".join(p.info["cmdline"] or [])]
    return sum(process.memory_full_info().uss for process in found) / 2**20


def test_hostile_uploads(endpoint: str, pages: list[bytes]):
    originals, codes, slowest_s = samples(pages), Counter[str](), 0.0
    before_mib = most_mib = replica_memory_mib()

    def one(number: int) -> tuple[str, float]:
        rng = random.Random(number)
        body = rng.choice(CHANGES)(rng.choice(originals), rng)
        begun = time.monotonic()
        with httpx.Client(base_url=endpoint, timeout=2 * SLOWEST_S) as client:
            response = send(client, body, rng)
            while response.status_code == 503 and response.json()["code"] == "busy":
                time.sleep(0.2)
                response = send(client, body, random.Random(number))
        assert response.status_code < 500, f"upload {number}: {response.status_code} {response.text[:300]}"
        assert "json" in response.headers["content-type"]
        code = response.json().get("code", "read") if response.status_code != 200 else "read"
        return f"{response.status_code} {code}", time.monotonic() - begun

    with ThreadPoolExecutor(8) as pool:
        for number, (code, seconds) in enumerate(pool.map(one, range(UPLOADS))):
            codes[code] += 1
            slowest_s = max(slowest_s, seconds)
            if number % 250 == 0:
                most_mib = max(most_mib, replica_memory_mib())
    after_mib = replica_memory_mib()
    print(
        f"{UPLOADS} uploads, slowest {slowest_s:.1f} s; MiB {before_mib:.0f}, at most {most_mib:.0f}, {after_mib:.0f}"
    )
    print(*codes.most_common(), sep="\n")
    assert slowest_s < SLOWEST_S
    assert most_mib - before_mib < GROWTH_MIB and after_mib - before_mib < GROWTH_MIB
    assert httpx.get(f"{endpoint}/readyz").status_code == 200
