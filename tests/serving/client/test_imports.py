"""A shop's application installs httpx and msgspec, and nothing of what the service needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import serving.client

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import sys

class Nothing:
    allowed = {"httpx", "httpcore", "h11", "anyio", "sniffio", "idna", "certifi", "msgspec", "typing_extensions"}
    # What httpx and the standard library (org: of Jython) look for and do without.
    optional = {"h2", "socksio", "brotli", "brotlicffi", "zstandard", "click", "rich", "pygments", "trio", "org"}

    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in self.allowed or root in sys.stdlib_module_names or root == "serving":
            return None
        if root not in self.optional:
            print("imports", name)
        raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Nothing())
import httpx
from serving.client import AsyncClient, Client
reply = {"recommendation_id": "r", "items": [], "release": "", "variants": {}, "degraded": [], "missing_ids": []}
def answer(request):
    named = {"X-Request-Id": request.headers["X-Request-Id"]}
    return httpx.Response(200, json={**reply, "next_page_token": None}, headers=named)
with Client("http://shop", transport=httpx.MockTransport(answer)) as client:
    assert client.recommendations(user_id="42").recommendation_id == "r"
ours = sorted(name for name in sys.modules if name.startswith("serving.") and not name.startswith("serving.client"))
print(ours)
"""


def test_the_client_needs_httpx_and_msgspec_alone() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "['serving.item_schemas', 'serving.schemas']\n"), (
        done.stdout + done.stderr
    )


def test_all_that_is_exported_is_there() -> None:
    assert [name for name in serving.client.__all__ if not hasattr(serving.client, name)] == []
