"""Encrypted images, written by the peer's tools, by cryptsetup and by ours, and read by the others.

cryptsetup needs no device mapper for what is asked of it here: it looks at headers and tries passwords.
"""

import json
import random
import shutil

import pytest

from support import PEER, run

SECRET = "secret,id=s,data=open sesame"
SECOND = "secret,id=n,data=second"
MIB = 1 << 20

needs_cryptsetup = pytest.mark.skipif(
    shutil.which("cryptsetup", path="/usr/sbin:/sbin:/usr/bin") is None, reason="cryptsetup is not installed")

CIPHERS = [
    [],
    ["cipher-alg=aes-128", "cipher-mode=cbc", "ivgen-alg=essiv", "ivgen-hash-alg=sha256",
     "hash-alg=sha1"],
    ["cipher-alg=aes-192", "hash-alg=sha512"],
    ["cipher-alg=aes-256", "cipher-mode=cbc", "ivgen-alg=plain", "hash-alg=ripemd160"],
    ["cipher-mode=ecb", "hash-alg=md5"],
    ["cipher-mode=ctr", "hash-alg=sha224"],
    ["cipher-alg=cast5-128", "cipher-mode=cbc", "hash-alg=sha384"],
]


def options(values, prefix=""):
    return ",".join(prefix + value for value in ["key-secret=s", "iter-time=10", *values])


def make(tool, *arguments):
    """Creates an image; the peer measures time, and fails when it measures none."""
    for _ in range(200):
        done = run(tool, "create", "-q", "--object", SECRET, *arguments, code=None)
        if done.code == 0:
            return
        assert "Unable to get accurate CPU usage" in done.err, done
    pytest.fail("the peer could not measure time")


def image(path):
    driver = "qcow2,encrypt." if path.suffix == ".qcow2" else "luks,"
    return f"driver={driver}key-secret=s,file.filename={path}"


def other(tool):
    return {"cairn-img": "qemu-img", "qemu-img": "cairn-img"}[tool]


def content(length, seed):
    return random.Random(seed).randbytes(length)


def fill(tool, path, data, folder):
    raw = folder / "fill.raw"
    raw.write_bytes(data)
    run(tool, "convert", "-n", "--object", SECRET, "--image-opts", "--target-image-opts",
        f"driver=raw,file.filename={raw}", image(path))


def read(tool, path, folder):
    raw = folder / "read.raw"
    run(tool, "convert", "-O", "raw", "--object", SECRET, "--image-opts", image(path), raw)
    return raw.read_bytes()


@pytest.mark.parametrize("writer", ["cairn-img", "qemu-img"])
@pytest.mark.parametrize("cipher", CIPHERS, ids=lambda values: "-".join(values) or "usual")
def test_volumes_are_read_by_the_other(tmp_path, writer, cipher):
    path = tmp_path / "v.luks"
    make(writer, "-f", "luks", "-o", options(cipher), path, str(MIB))
    data = content(MIB, 1)
    fill(writer, path, data, tmp_path)
    assert read(other(writer), path, tmp_path) == data
    more = content(MIB, 2)
    fill(other(writer), path, more, tmp_path)
    assert read(writer, path, tmp_path) == more


@pytest.mark.parametrize("writer", ["cairn-img", "qemu-img"])
@pytest.mark.parametrize("kind", ["luks", "aes", "small", "chain"])
def test_qcow2_images_are_read_by_the_other(tmp_path, writer, kind):
    path = tmp_path / "v.qcow2"
    chosen = "encrypt.format=aes,encrypt.key-secret=s" if kind == "aes" else \
        "encrypt.format=luks," + options([], "encrypt.")
    if kind == "small":
        chosen += ",cluster_size=512"
    size = [str(MIB)]
    if kind == "chain":
        below = tmp_path / "below.raw"
        below.write_bytes(b"\5" * MIB)
        size = ["-b", str(below), "-F", "raw"]
    make(writer, "-f", "qcow2", "-o", chosen, path, *size)
    expected = bytearray(b"\5" * MIB if kind == "chain" else MIB)
    for tool, place in [(writer, 70000), (other(writer), 200000), (writer, 70100)]:
        io = tool.replace("img", "io")
        run(io, "--object", SECRET, "--image-opts", image(path), "-c", f"write -P {place % 251} {place} 5000")
        expected[place:place + 5000] = bytes([place % 251]) * 5000
        assert read(other(tool), path, tmp_path) == expected
    run("qemu-img", "check", "--object", SECRET, "--image-opts", image(path))
    run("cairn-img", "check", "--object", SECRET, "--image-opts", image(path))


@pytest.mark.parametrize("name", ["disk.luks", "disk.qcow2"])
@pytest.mark.parametrize("tool", ["cairn-img", "qemu-img"])
def test_an_overlay_needs_no_key_of_what_is_below_it(tmp_path, tool, name):
    form = name.split(".")[1]
    prefix = "encrypt." if form == "qcow2" else ""
    kind = ["encrypt.format=luks"] if form == "qcow2" else []
    make("cairn-img", "-f", form, "-o", ",".join([*kind, options([], prefix)]), tmp_path / name, "1M")
    run(tool, "create", "-q", "-f", "qcow2", "-b", name, "-F", form, tmp_path / "over.qcow2")
    told = json.loads(run(tool, "info", "--output=json", tmp_path / "over.qcow2").out)
    assert (told["virtual-size"], told["backing-filename"]) == (MIB, name)


def test_snapshots_of_encrypted_images_keep_what_they_had(tmp_path):
    path = tmp_path / "v.qcow2"
    make("cairn-img", "-f", "qcow2", "-o", "encrypt.format=luks," + options([], "encrypt."), path, "1M")
    first, second = content(MIB, 3), content(MIB, 4)
    fill("cairn-img", path, first, tmp_path)
    run("cairn-img", "snapshot", "-c", "one", "--object", SECRET, "--image-opts", image(path))
    fill("cairn-img", path, second, tmp_path)
    assert read("qemu-img", path, tmp_path) == second
    run("cairn-img", "snapshot", "-a", "one", "--object", SECRET, "--image-opts", image(path))
    assert read("qemu-img", path, tmp_path) == first


def test_convert_encrypts_and_decrypts(tmp_path):
    plain = tmp_path / "plain.raw"
    data = content(MIB, 5) + bytes(MIB)
    plain.write_bytes(data)
    for name, chosen in [("v.luks", options([])),
                         ("v.qcow2", "encrypt.format=luks," + options([], "encrypt."))]:
        path = tmp_path / name
        run("cairn-img", "convert", "--object", SECRET, "-O", path.suffix[1:], "-o", chosen, plain, path)
        assert read("qemu-img", path, tmp_path) == data
        assert read("cairn-img", path, tmp_path) == data


@needs_cryptsetup
def test_cryptsetup_agrees(tmp_path):
    path = tmp_path / "v.luks"
    key, second = tmp_path / "key", tmp_path / "second"
    key.write_text("open sesame")
    second.write_text("second")
    make("cairn-img", "-f", "luks", "-o", options([]), path, "1M")
    dump = run("cryptsetup", "luksDump", path).out
    assert "Version:       \t1" in dump and "xts-plain64" in dump
    run("cryptsetup", "luksOpen", "--test-passphrase", "--key-file", key, path)
    run("cryptsetup", "luksOpen", "--test-passphrase", "--key-file", second, path, code=2)
    run("cairn-img", "amend", "--object", SECRET, "--object", SECOND, "--image-opts",
        "-o", "state=active,new-secret=n,iter-time=10", image(path))
    run("cryptsetup", "luksOpen", "--test-passphrase", "--key-file", second, path)
    run("cryptsetup", "luksKillSlot", "--batch-mode", "--key-file", second, path, "0")
    run("cairn-io", "--object", SECRET, "--image-opts", image(path), "-c", "length", code=1)
    run("cryptsetup", "luksAddKey", "--batch-mode", "--iter-time", "10", "--key-file", second, path, key)
    run("cairn-io", "--object", SECRET, "--image-opts", image(path), "-c", "length")


@needs_cryptsetup
@pytest.mark.parametrize("cipher,bits", [("aes-xts-plain64", "512"), ("aes-cbc-essiv:sha256", "192")])
def test_what_cryptsetup_made_opens(tmp_path, cipher, bits):
    path = tmp_path / "v.luks"
    path.write_bytes(bytes(8 * MIB))
    key = tmp_path / "key"
    key.write_text("open sesame")
    run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--iter-time", "10", "--cipher", cipher,
        "--key-size", bits, "--key-file", key, path)
    run("cairn-io", "--object", SECRET, "--image-opts", image(path), "-c", "write -P 7 0 64k", "-c", "read -P 7 0 64k")
    info = json.loads(run("cairn-img", "info", "--output=json", path).out)
    assert info["encrypted"] and info["format-specific"]["type"] == "luks"


@needs_cryptsetup
@pytest.mark.parametrize("more", [[], ["--pbkdf", "pbkdf2"], ["--sector-size", "512", "--pbkdf", "argon2i"]],
                         ids=["usual", "pbkdf2", "argon2i"])
def test_volumes_of_version_2_made_by_cryptsetup(tmp_path, more):
    path, key, second = tmp_path / "v.luks", tmp_path / "key", tmp_path / "second"
    path.write_bytes(bytes(20 * MIB))
    key.write_text("open sesame")
    second.write_text("second")
    cost = [] if "pbkdf2" in more else ["--pbkdf-memory", "1024", "--pbkdf-force-iterations", "4"]
    run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--key-file", key, *more,
        *(cost or ["--iter-time", "10"]), path)
    run("cairn-io", "--object", SECRET, "--image-opts", image(path), "-c", "write -P 7 100 64k",
        "-c", "read -P 7 100 64k")
    run("cairn-img", "amend", "--object", SECRET, "--object", SECOND, "--image-opts",
        "-o", "state=active,new-secret=n,iter-time=10", image(path))
    run("cryptsetup", "luksOpen", "--test-passphrase", "--key-file", second, path)
    run("cairn-img", "amend", "--object", SECRET, "--image-opts", "-o", "state=inactive,old-secret=s", image(path))
    run("cryptsetup", "luksOpen", "--test-passphrase", "--key-file", key, path, code=2)
    run("cryptsetup", "luksDump", path)


@needs_cryptsetup
@pytest.mark.parametrize("pbkdf", ["pbkdf2", "argon2id"])
def test_volumes_of_version_2_made_by_us(tmp_path, pbkdf):
    path, key = tmp_path / "v.luks", tmp_path / "key"
    key.write_text("open sesame")
    run("cairn-img", "create", "-q", "--object", SECRET, "-f", "luks", "-o",
        options([f"pbkdf={pbkdf}", "version=luks2", "pbkdf-memory=1024"]), path, "1M")
    run("cryptsetup", "luksOpen", "--test-passphrase", "--key-file", key, path)
    dump = run("cryptsetup", "luksDump", path).out
    assert "Version:       \t2" in dump and f"PBKDF:      {pbkdf}" in dump


@pytest.mark.skipif(PEER, reason="newer than the peer")
def test_a_detached_header_and_its_disk(tmp_path):
    header, disk = tmp_path / "header", tmp_path / "disk"
    run("cairn-img", "create", "-q", "--object", SECRET, "-f", "luks", "-o",
        options([]) + ",detached-header=on", header)
    disk.write_bytes(bytes(MIB))
    node = f"driver=luks,key-secret=s,file.filename={disk},header.filename={header}"
    run("cairn-io", "--object", SECRET, "--image-opts", node, "-c", "write -P 7 0 1M")
    run("cairn-io", "--object", SECRET, "--image-opts", node, "-c", "read -P 7 0 1M")
    assert disk.read_bytes().count(7) < MIB // 10
    info = json.loads(run("cairn-img", "info", "--output=json", "--image-opts", node).out)
    assert info["format-specific"]["data"]["detached-header"]


@pytest.mark.skipif(PEER, reason="compares with the peer")
@pytest.mark.parametrize("cluster_size", ["64k", "512", "2M"])
def test_an_encrypted_image_is_as_long_as_the_peers(folder, cluster_size):
    options = ("-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,"
               f"cluster_size={cluster_size}")
    for program in ("cairn-img", "qemu-img"):
        make(program, "-f", "qcow2", *options, folder / program, "1M")
    assert (folder / "cairn-img").stat().st_size == (folder / "qemu-img").stat().st_size
