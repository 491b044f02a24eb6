#include "tools/img/examples.h"

#include <array>

namespace cairn::tools {
namespace {

constexpr std::array kExamples = {
    ImgExample{"amend", "let an old image have what version 3 has", "-o compat=1.1 disk.qcow2"},
    ImgExample{"amend", "list what can be changed", "-f qcow2 -o help"},
    ImgExample{"bench", "10000 reads of 4 KiB, 32 at a time", "-c 10000 -d 32 -f qcow2 disk.qcow2"},
    ImgExample{"bench", "write 64 KiB pieces, durable every 16",
               "-w -s 64k --flush-interval 16 -f raw scratch.raw"},
    ImgExample{"bitmap", "begin to mark what changes, for incremental backups",
               "--add -g 64k disk.qcow2 backup"},
    ImgExample{"bitmap", "take the marks of one bitmap into another",
               "--merge monday disk.qcow2 week"},
    ImgExample{"check", "look, for a program to read", "-f qcow2 --output json disk.qcow2"},
    ImgExample{"check", "give back what is in use by nothing", "-r leaks disk.qcow2"},
    ImgExample{"commit", "move what the overlay has into its backing file", "-p overlay.qcow2"},
    ImgExample{"commit", "the same, into an image further below", "-b base.qcow2 overlay.qcow2"},
    ImgExample{"compact", "cut what is free off the file", "-p -f qcow2 disk.qcow2"},
    ImgExample{"compact", "the same without a word", "-q disk.qcow2"},
    ImgExample{"compare", "do both hold the same", "-f qcow2 -F raw disk.qcow2 disk.raw"},
    ImgExample{"compare", "and the same way", "-s old.qcow2 new.qcow2"},
    ImgExample{"convert", "a compressed copy, compared with the disk before it gets its name",
               "-c -p --verify -f raw -O qcow2 /dev/vg/disk disk.qcow2"},
    ImgExample{"convert", "a copy that an interruption does not send back to the start",
               "--resume -p -f qcow2 -O raw disk.qcow2 disk.raw"},
    ImgExample{"convert", "a disk that another host serves, by several requests at a time",
               "-W -m 16 -f raw -O qcow2 nbd://host/disk disk.qcow2"},
    ImgExample{"convert", "an overlay of an encrypted image, whose name the overlay knows",
               "--object secret,id=key,file=passphrase -O raw --image-opts "
               "driver=qcow2,file.filename=overlay.qcow2,backing.encrypt.key-secret=key disk.raw"},
    ImgExample{"create", "an empty disk of 10 GiB", "-f qcow2 disk.qcow2 10G"},
    ImgExample{"create", "an overlay: changes go there, the base stays",
               "-f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2"},
    ImgExample{"create", "an encrypted disk",
               "--object secret,id=key,file=passphrase -f luks -o key-secret=key disk.luks 10G"},
    ImgExample{"dd", "the first 512 bytes of a disk",
               "-f qcow2 -O raw bs=512 count=1 if=disk.qcow2 of=sector.raw"},
    ImgExample{"dd", "all but the first MiB", "-f raw -O raw bs=1M skip=1 if=disk.raw of=rest.raw"},
    ImgExample{"info", "the image and those that it stands on", "--backing-chain overlay.qcow2"},
    ImgExample{"info", "an upload, before anything else is done with it",
               "--policy=untrusted,formats=qcow2:raw --output=json upload"},
    ImgExample{"map", "what is stored where, for a program to read",
               "-f qcow2 --output=json disk.qcow2"},
    ImgExample{"map", "the first GiB", "-l 1G -f raw disk.raw"},
    ImgExample{"measure", "how large a file the copy needs", "-f raw -O qcow2 disk.raw"},
    ImgExample{"measure", "how large a new image can grow", "-O qcow2 -s 10G"},
    ImgExample{"rebase", "stand on another image, and read the same",
               "-p -b new-base.qcow2 -F qcow2 overlay.qcow2"},
    ImgExample{"rebase", "the backing file was moved",
               "-u -b moved/base.qcow2 -F qcow2 overlay.qcow2"},
    ImgExample{"resize", "10 GiB more", "-f qcow2 disk.qcow2 +10G"},
    ImgExample{"resize", "cut off what lies behind 5 GiB", "--shrink -f raw disk.raw 5G"},
    ImgExample{"snapshot", "keep the disk as it is", "-c before-upgrade disk.qcow2"},
    ImgExample{"snapshot", "go back to it", "-a before-upgrade disk.qcow2"},
    ImgExample{"sparsify", "give up the space of zeroes", "-p -f raw disk.raw"},
    ImgExample{"sparsify", "the same of an image", "-f qcow2 disk.qcow2"},
};

}  // namespace

std::span<const ImgExample> img_examples() { return kExamples; }

}  // namespace cairn::tools
