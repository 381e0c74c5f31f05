from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from recsys.serving_config import ServingConfig
from tests.serving.asking import refused
from tests.serving.conftest import Serve
from tests.serving.test_access import HASHES

SHOP, OTHER = "https://shop.example", "https://evil.example"


@pytest.fixture
def shop(serve: Serve) -> TestClient:
    return serve(cors_origins=(SHOP,), api_keys_sha256=HASHES)


def preflight(client: TestClient, origin: str, path: str = "/v1/recommendations") -> dict[str, str]:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    headers["Access-Control-Request-Headers"] = "authorization,content-type"
    response = client.options(path, headers=headers)
    return {"status": str(response.status_code), **response.headers}


def test_a_preflight_of_a_named_origin_is_answered_before_it_has_a_key(shop: TestClient) -> None:
    answer = preflight(shop, SHOP)
    assert answer["status"] == "204"
    assert answer["access-control-allow-origin"] == SHOP
    assert "POST" in answer["access-control-allow-methods"]
    assert "authorization" in answer["access-control-allow-headers"].lower()
    assert answer["vary"] == "origin"


def test_other_origins_and_plain_options_are_refused_like_everybody_without_a_key(shop: TestClient) -> None:
    for answer in (preflight(shop, OTHER), preflight(shop, SHOP + ".evil.example"), preflight(shop, "null")):
        assert answer["status"] == "401"
        assert "access-control-allow-origin" not in answer
    refused(shop.options("/v1/recommendations", headers={"Origin": SHOP}), 401)


def test_replies_and_refusals_may_be_read_by_the_named_origin_only(shop: TestClient) -> None:
    good = {"authorization": "Bearer key-one", "origin": SHOP}
    for headers, status in ((good, 200), ({"origin": SHOP}, 401)):
        response = shop.post("/v1/recommendations", json={}, headers=headers)
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == SHOP
        assert "access-control-allow-credentials" not in response.headers
    response = shop.post("/v1/recommendations", json={}, headers={**good, "origin": OTHER})
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "origin"


def test_by_default_no_page_may_call(client: TestClient) -> None:
    assert "access-control-allow-origin" not in preflight(client, SHOP)
    response = client.post("/v1/recommendations", json={}, headers={"origin": SHOP})
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["*", "null", "https://shop.example/", "shop.example", "https://*.example", ""])
def test_what_is_no_exact_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="exact origins"):
        ServingConfig(cors_origins=(origin,))
