// Tests of tools/common/info.h.
#include "tools/common/info.h"

#include <gtest/gtest.h>

#include "schema/visit_block_info.h"

namespace cairn::tools {
namespace {

schema::BlockGraphInfo image() {
  schema::BlockGraphInfo file;
  file.filename = "d/t.qcow2";
  file.format = "file";
  file.virtual_size = 196616;
  file.actual_size = 4096;
  file.dirty_flag = false;
  schema::ImageInfoSpecific nothing;
  nothing.type = schema::ImageInfoSpecificKind::kFile;
  nothing.branch = schema::ImageInfoSpecificFileWrapper{};
  file.format_specific = nothing;

  schema::BlockGraphInfo info;
  info.filename = "d/t.qcow2";
  info.format = "qcow2";
  info.virtual_size = 1 << 20;
  info.cluster_size = 65536;
  info.dirty_flag = true;
  info.backing_filename = "b.raw";
  info.full_backing_filename = "d/b.raw";
  info.backing_filename_format = "raw";
  schema::ImageInfoSpecificQCow2Wrapper qcow2;
  qcow2.data.compat = "1.1";
  qcow2.data.refcount_bits = 16;
  qcow2.data.lazy_refcounts = false;
  qcow2.data.bitmaps = {
      {.name = "b0", .granularity = 65536, .flags = {schema::Qcow2BitmapInfoFlags::kAuto}}};
  schema::ImageInfoSpecific specific;
  specific.type = schema::ImageInfoSpecificKind::kQcow2;
  specific.branch = qcow2;
  info.format_specific = specific;
  info.children.push_back({.name = "file", .info = file});
  return info;
}

TEST(InfoText, ShowsAnImageAndItsChildren) {
  EXPECT_EQ(info_text(image()),
            "image: d/t.qcow2\n"
            "file format: qcow2\n"
            "virtual size: 1 MiB (1048576 bytes)\n"
            "disk size: unavailable\n"
            "cluster_size: 65536\n"
            "cleanly shut down: no\n"
            "backing file: b.raw (actual path: d/b.raw)\n"
            "backing file format: raw\n"
            "Format specific information:\n"
            "    compat: 1.1\n"
            "    compression type: zlib\n"
            "    lazy refcounts: false\n"
            "    bitmaps:\n"
            "        [0]:\n"
            "            flags:\n"
            "                [0]: auto\n"
            "            name: b0\n"
            "            granularity: 65536\n"
            "    refcount bits: 16\n"
            "Child node '/file':\n"
            "    filename: d/t.qcow2\n"
            "    protocol type: file\n"
            "    file length: 192 KiB (196616 bytes)\n"
            "    disk size: 4 KiB\n");
}

TEST(InfoText, SaysNothingOfADriverWithNothingToSay) {
  EXPECT_EQ(specific_info_text(*image().children.front().info.format_specific), "");
}

TEST(UsualOrder, PutsKnownNamesInTheirPlacesAndKeepsTheRest) {
  schema::JsonObject object;
  for (const char* name : {"zzz", "dirty-flag", "filename", "aaa", "virtual-size", "children"}) {
    object.add(name, 1);
  }
  EXPECT_EQ(to_text(in_usual_order(object)),
            R"({"children": 1, "virtual-size": 1, "filename": 1, "dirty-flag": 1, "zzz": 1, )"
            R"("aaa": 1})");
}

}  // namespace
}  // namespace cairn::tools
