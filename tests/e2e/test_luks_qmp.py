"""LUKS2 over QMP, which is ours alone: volumes are made, opened, and their keys changed; cryptsetup judges."""

import json
import shutil

import pytest

from support import PEER, Qmp, img, run

MIB = 1 << 20
HEADER = 16 * MIB

pytestmark = pytest.mark.skipif(PEER, reason="the peer has no LUKS2")
needs_cryptsetup = pytest.mark.skipif(
    shutil.which("cryptsetup", path="/usr/sbin:/sbin:/usr/bin") is None, reason="cryptsetup is not installed")


@pytest.fixture
def monitor(bare_monitor):
    for name in ("first", "second"):
        bare_monitor("object-add", **{"qom-type": "secret", "id": name, "data": f"password of {name}"})
    return bare_monitor


def conclude(monitor, job):
    """Dismisses a job that has ended; what went wrong."""
    told = {}
    while told.get("status") != "concluded":
        told = {entry["id"]: entry for entry in monitor("query-jobs")}[job]
    monitor("job-dismiss", id=job)
    return told.get("error")


def make(monitor, path, **options):
    path.touch()
    monitor("blockdev-create", job_id="make", options={
        "driver": "luks", "file": {"driver": "file", "filename": str(path)}, "size": MIB, "key-secret": "first",
        "iter-time": 10, **options})
    return conclude(monitor, "make")


def add(monitor, path, secret):
    monitor("blockdev-add", driver="luks", node_name="v", key_secret=secret, file={
        "driver": "file", "filename": str(path)})


def amend(monitor, **options):
    monitor("x-blockdev-amend", job_id="amend", node_name="v", options={"driver": "luks", **options})
    return conclude(monitor, "amend")


def try_key(path, secret, code):
    key = path.parent / "key"
    key.write_text(f"password of {secret}")
    run("cryptsetup", "luksOpen", "--test-passphrase", "--key-file", key, path, code=code)


@needs_cryptsetup
@pytest.mark.parametrize("options,sector", [
    ({"pbkdf": "pbkdf2", "sector-size": 512}, 512), ({"pbkdf-memory": 1024, "pbkdf-threads": 2}, 4096),
    ({"pbkdf": "argon2i", "pbkdf-memory": 64, "sector-size": 2048, "cipher-alg": "aes-128"}, 2048)],
    ids=["pbkdf2", "argon2id", "argon2i"])
def test_volumes_are_made_opened_and_get_keys(monitor, folder, options, sector):
    path = folder / "v.luks"
    assert make(monitor, path, version="luks2", **options) is None
    assert path.stat().st_size == HEADER + MIB
    dump = run("cryptsetup", "luksDump", path).out
    assert "Version:       \t2" in dump and f"sector: {sector}" in dump
    assert f"PBKDF:      {options.get('pbkdf', 'argon2id')}" in dump
    try_key(path, "first", 0)

    add(monitor, path, "first")
    shown = {node["node-name"]: node for node in monitor("query-named-block-nodes")}["v"]["image"]
    told = shown["format-specific"]["data"]
    assert shown["virtual-size"] == MIB and told["version"] == 2 and told["sector-size"] == sector
    assert amend(monitor, **{"state": "active", "new-secret": "second", "iter-time": 10}) is None
    try_key(path, "second", 0)
    assert amend(monitor, **{"state": "inactive", "old-secret": "first"}) is None
    try_key(path, "first", 2)
    assert "only active keyslot" in amend(monitor, **{"state": "inactive", "keyslot": 1})
    monitor("blockdev-del", node_name="v")
    add(monitor, path, "second")
    monitor("blockdev-del", node_name="v")


def test_the_header_may_lie_apart(monitor, folder):
    header, disk = folder / "header", folder / "disk"
    header.touch()
    disk.touch()
    files = {name: {"driver": "file", "filename": str(path)} for name, path in (("header", header), ("file", disk))}
    monitor("blockdev-create", job_id="make", options={
        "driver": "luks", **files, "size": MIB, "key-secret": "first", "iter-time": 10, "version": "luks2",
        "pbkdf": "pbkdf2"})
    assert conclude(monitor, "make") is None
    assert (header.stat().st_size, disk.stat().st_size) == (HEADER, MIB)
    monitor("blockdev-add", driver="luks", node_name="v", key_secret="first", **files)
    monitor("blockdev-del", node_name="v")


@pytest.mark.parametrize("options,why", [
    ({"pbkdf": "argon2id"}, "Parameter 'pbkdf' needs version=luks2"),
    ({"version": "luks1", "sector-size": 4096}, "Parameter 'sector-size' needs version=luks2"),
    ({"version": "luks2", "sector-size": 8192}, "Parameter 'sector-size' expects 512, 1024, 2048 or 4096"),
    ({"version": "luks2", "pbkdf-threads": 5}, "Parameter 'pbkdf-threads' expects a number from 1 to 4"),
    ({"version": "luks2", "pbkdf-memory": 8}, "Parameter 'pbkdf-memory' expects a number from 32 to 4194304")])
def test_what_can_not_be_made_is_refused(monitor, folder, options, why):
    path = folder / "v.luks"
    assert make(monitor, path, **options) == why
    assert path.stat().st_size == 0


def test_unknown_versions_are_refused_at_once(monitor, folder):
    answer = monitor.ask("blockdev-create", job_id="make", options={
        "driver": "luks", "size": MIB, "key-secret": "first", "version": "luks3"})
    assert "does not accept value 'luks3'" in answer["error"]["desc"]
    assert monitor("query-jobs") == []


def test_version_1_is_made_and_told_as_before(monitor, folder):
    path = folder / "v.luks"
    assert make(monitor, path) is None
    told = json.loads(img("info", "--output=json", path).out)["format-specific"]["data"]
    assert not {"version", "sector-size"} & told.keys()
    assert len(told["slots"]) == 8 and not {"pbkdf", "memory", "threads"} & told["slots"][0].keys()


def test_info_tells_what_a_volume_has(monitor, folder):
    path = folder / "v.luks"
    assert make(monitor, path, **{"version": "luks2", "pbkdf-memory": 64, "pbkdf-threads": 1}) is None
    told = json.loads(img("info", "--output=json", path).out)["format-specific"]["data"]
    slot = told["slots"][0]
    assert (told["version"], told["sector-size"], told["payload-offset"]) == (2, 4096, HEADER)
    assert told["cipher-alg"] == "aes-256" and told["cipher-mode"] == "xts" and len(told["uuid"]) == 36
    assert (slot["pbkdf"], slot["memory"], slot["threads"], slot["active"]) == ("argon2id", 64, 1, True)
    shown = img("info", path).out
    for line in ("    version: 2\n", "    sector size: 4096\n", "            pbkdf: argon2id\n", "            memory: 64\n",
                 "            threads: 1\n", "    payload offset: 16777216\n"):
        assert line in shown, line
