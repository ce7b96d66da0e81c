"""The same road with object storage: a moto server, which speaks S3."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import s3fs
from archives.road import Road
from moto.server import ThreadedMotoServer

from atlas_ops import inplace, store
from atlas_ops.errors import AtlasError
from atlas_ops.store import Store

MONTH = "diary_2024_01"
KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 bucket of the test's own; endpoint and keys are where the AWS tools look for them."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    client = boto3.client("s3")
    client.create_bucket(Bucket="atlas-archive")
    yield client
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def distant(diary: Road, bucket: Any) -> Road:
    diary.folder = "s3://atlas-archive/production"
    return diary


def objects(client: Any) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket="atlas-archive").get("Contents", [])]


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_the_road_by_object_storage(distant: Road, bucket: Any, form: str) -> None:
    before = distant.ledger(), distant.digest()
    names = distant.away()
    found = objects(bucket)
    assert all(name.startswith("production/") for name in found)
    assert sorted(name.rpartition(".")[2] for name in found) == ["json"] * 6 + ["parquet"] * 2 + ["zst"] * 2
    assert inplace.rows_per_month([distant.archive]) == [("diary", "2024-01", 31), ("diary", "2024-02", 27)]
    distant.restore(*names, form=form)
    assert (distant.ledger(), distant.digest()) == before


def test_a_file_larger_than_a_part_is_uploaded_in_parts(
    distant: Road, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PART_BYTES", 5 << 20)  # the least that S3 takes
    distant.run(
        "UPDATE diary_partitioned SET body = (SELECT string_agg(md5((n * 1000 + id)::text), '') FROM generate_series(1, 15000) AS n)"
    )
    before = distant.digest()
    names = distant.away()
    assert max(one["Size"] for one in bucket.list_objects_v2(Bucket="atlas-archive")["Contents"]) > 5 << 20
    distant.restore(*names)
    assert distant.digest() == before


def test_an_upload_that_fails_leaves_no_object_and_no_part(bucket: Any) -> None:
    place = Store("s3://atlas-archive/x", "y")
    with pytest.raises(RuntimeError, match="on the way"), place.writer("file.dump") as file:
        file.write(b"x" * (40 << 20))
        raise RuntimeError("on the way")
    assert objects(bucket) == []
    assert bucket.list_multipart_uploads(Bucket="atlas-archive").get("Uploads", []) == []


def spoil(client: Any, key: str, change: Callable[[bytes], bytes]) -> None:
    content = client.get_object(Bucket="atlas-archive", Key=key)["Body"].read()
    client.put_object(Bucket="atlas-archive", Key=key, Body=change(content))


@pytest.mark.parametrize(
    "change", [lambda text: text[:-100], lambda text: text[:50] + bytes([text[50] ^ 4]) + text[51:]]
)
def test_a_damaged_object_is_found(distant: Road, bucket: Any, change: Callable[[bytes], bytes]) -> None:
    distant.detach()
    distant.export()
    distant.prove()
    [key] = [name for name in objects(bucket) if MONTH in name and name.endswith(".dump.zst")]
    spoil(bucket, key, change)
    with pytest.raises(AtlasError, match=MONTH):
        distant.drop()
    assert distant.value(f"SELECT count(*) FROM partitions.{MONTH}") == 31


def test_a_line_of_the_manifest_is_written_once(distant: Road, bucket: Any) -> None:
    distant.detach()
    distant.export(MONTH)
    kept, [line] = distant.archive.kept, distant.lines()
    with pytest.raises(AtlasError, match="Line 1 of the manifest"):
        kept.append(line)
    missing = next(name for name in objects(bucket) if "00000001" in name)
    distant.export()
    bucket.delete_object(Bucket="atlas-archive", Key=missing)
    with pytest.raises(AtlasError, match="line 1 is missing"):
        distant.prove()


def test_a_bucket_that_is_not_there_and_keys_that_are_refused_are_told_without_them(
    distant: Road, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    distant.detach()
    distant.folder = "s3://no-such-bucket/x"
    with pytest.raises(AtlasError, match="cannot be") as stop:
        distant.export()
    assert "a-secret-of-the-tests" not in str(stop.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    distant.folder = "s3://atlas-archive/x"
    with pytest.raises(AtlasError, match="cannot be") as stop:
        distant.export()
    assert "AWS" in stop.value.next
    assert distant.value(f"SELECT count(*) FROM partitions.{MONTH}") == 31
