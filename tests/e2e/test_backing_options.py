"""Options for the backing file that an image names itself: what they leave open comes from the image."""

import json

import pytest

from support import run

SECRET = "secret,id=s,data=open sesame"
KIB = 1024


@pytest.fixture(params=["cairn-img", "qemu-img"])
def tool(request):
    return request.param


@pytest.fixture
def chain(folder):
    """sub/top.qcow2 on mid.qcow2 on base.raw, which has 64 KiB of ones at its beginning."""
    (folder / "base.raw").write_bytes(bytes([1]) * 64 * KIB + bytes(960 * KIB))
    (folder / "other.raw").write_bytes(bytes([2]) * 1024 * KIB)
    (folder / "sub").mkdir()
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "mid.qcow2", cwd=folder)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "../mid.qcow2", "-F", "qcow2", "top.qcow2",
        cwd=folder / "sub")
    return "driver=qcow2,file.filename=sub/top.qcow2"


def content(tool, folder, name, *more):
    run(tool, "convert", *more, "-O", "raw", "--image-opts", name, "out.raw", cwd=folder)
    return (folder / "out.raw").read_bytes()


@pytest.mark.parametrize("options", [
    "backing.read-only=on", "backing.driver=qcow2", "backing.lazy-refcounts=on", "backing.file.locking=off",
    "backing.file.driver=file", "backing.backing.driver=raw", "backing.backing.file.aio=threads",
    "backing.node-name=below,backing.backing.detect-zeroes=on"])
def test_what_is_left_open_comes_from_the_image(folder, tool, chain, options):
    ones = bytes([1]) * 64 * KIB
    assert content(tool, folder, f"{chain},{options}") == ones + bytes(960 * KIB)


def test_the_format_of_a_probed_image_counts_too(folder, tool, chain):
    name = "file.filename=sub/top.qcow2,backing.backing.offset=63k"
    assert content(tool, folder, name) == bytes([1]) * KIB + bytes(1023 * KIB)


def test_a_window_of_the_lowest_image(folder, tool, chain):
    name = f"{chain},backing.backing.size=4k"
    assert content(tool, folder, name) == bytes([1]) * 4 * KIB + bytes(1020 * KIB)


def test_another_file_has_the_format_that_the_image_names(folder, tool, chain):
    name = f"{chain},backing.file.filename=other.raw"
    done = run(tool, "map", "--image-opts", name, cwd=folder, code=1)
    assert done.err.endswith("Could not open backing file: Image is not in qcow2 format\n")
    name = f"{chain},backing.driver=raw,backing.file.filename=other.raw"
    assert content(tool, folder, name) == bytes([2]) * 1024 * KIB


def test_no_options_at_all_are_about_the_backing_file_that_there_is(folder, tool, chain):
    file = {"driver": "file", "filename": "sub/top.qcow2"}
    name = f"json:{json.dumps({'driver': 'qcow2', 'file': file, 'backing': {}})}"
    done = run(tool, "compare", "-F", "raw", name, "base.raw", cwd=folder)
    assert done.out == "Images are identical.\n"


def test_a_name_that_is_json_is_looked_into(folder, tool, chain):
    below = {"driver": "raw", "file": {"driver": "file", "filename": "base.raw"}}
    run("qemu-img", "rebase", "-u", "-b", f"json:{json.dumps(below)}", "-F", "raw", "mid.qcow2", cwd=folder)
    name = "driver=qcow2,file.filename=mid.qcow2,backing.offset=63k,backing.file.locking=off"
    assert content(tool, folder, name) == bytes([1]) * KIB + bytes(1023 * KIB)


@pytest.mark.parametrize("options, said", [
    ("backing.nosuch=1", "Could not open backing file: Block format 'qcow2' does not support the option 'nosuch'"),
    ("backing.backing.nosuch=1", "Could not open backing file: Could not open backing file: "
                                 "Block format 'raw' does not support the option 'nosuch'"),
    ("backing.driver=nosuch", "Could not open backing file: Unknown driver 'nosuch'"),
    ("backing.backing.backing.read-only=on", "Driver doesn't support backing files")])
def test_what_is_wrong_is_said_of_the_image_it_concerns(folder, tool, chain, options, said):
    done = run(tool, "map", "--image-opts", f"{chain},{options}", cwd=folder, code=1)
    assert said in done.err, done


@pytest.mark.parametrize("options, said", [
    ("backing.read-only=on", "Must specify either driver or file"),
    ("backing.driver=qcow2", 'A block device must be specified for "file"')])
def test_an_image_without_a_backing_file_has_nothing_to_add_to(folder, tool, options, said):
    run("qemu-img", "create", "-q", "-f", "qcow2", "alone.qcow2", "1M", cwd=folder)
    done = run(tool, "map", "--image-opts", f"driver=qcow2,file.filename=alone.qcow2,{options}",
               cwd=folder, code=1)
    assert f"Could not open backing file: {said}" in done.err, done


def test_the_key_of_an_encrypted_backing_file(folder, tool):
    run("cairn-img", "create", "-q", "--object", SECRET, "-f", "qcow2", "-o",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "base.qcow2", "1M", cwd=folder)
    run("qemu-io", "--object", SECRET, "-c", "write -q -P 7 0 1M", "--image-opts",
        "driver=qcow2,encrypt.key-secret=s,file.filename=base.qcow2", cwd=folder)
    run(tool, "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", cwd=folder)
    name = "driver=qcow2,file.filename=top.qcow2,backing.encrypt.key-secret=s"
    assert content(tool, folder, name, "--object", SECRET) == bytes([7]) * 1024 * KIB
    done = run(tool, "map", "--image-opts", "driver=qcow2,file.filename=top.qcow2", cwd=folder, code=1)
    assert "Parameter 'encrypt.key-secret' is required for cipher" in done.err
    run(tool, "rebase", "--object", SECRET, "-b", "", "--image-opts", name, cwd=folder)
    assert content(tool, folder, "driver=qcow2,file.filename=top.qcow2") == bytes([7]) * 1024 * KIB


def test_untrusted_images_have_nothing_opened_that_they_name(folder, chain):
    done = run("cairn-img", "map", "--policy=untrusted", "--image-opts", f"{chain},backing.read-only=on",
               cwd=folder, code=1)
    assert "names a backing file ('../mid.qcow2'), and opening it is not allowed" in done.err, done
