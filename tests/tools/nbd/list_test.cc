// Tests of the text that tools/nbd/list.h makes of a server's exports.
#include "tools/nbd/list.h"

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

using nbd::client::ExportInfo;
using nbd::client::ListedExport;

TEST(ExportList, CountsNone) { EXPECT_EQ(export_list_text({}), "exports available: 0\n"); }

TEST(ExportList, ShowsAllThatIsKnown) {
  ExportInfo info;
  info.size = 2 << 20;
  info.flags = 0x1ced;
  info.min_block = 1;
  info.preferred_block = 4096;
  info.max_block = 32 << 20;
  info.extended = true;
  const ListedExport entry{.name = "disk",
                           .info = info,
                           .description = "a disk",
                           .contexts = {"base:allocation", "qemu:dirty-bitmap:b"}};
  EXPECT_EQ(export_list_text(std::span(&entry, 1)),
            "exports available: 1\n"
            " export: 'disk'\n"
            "  description: a disk\n"
            "  size:  2097152\n"
            "  flags: 0x1ced ( flush fua trim zeroes df cache fast-zero block-status-payload )\n"
            "  min block: 1\n"
            "  opt block: 4096\n"
            "  max block: 33554432\n"
            "  transaction size: 64-bit\n"
            "  available meta contexts: 2\n"
            "   base:allocation\n"
            "   qemu:dirty-bitmap:b\n");
}

TEST(ExportList, NamesTheRareFlags) {
  ExportInfo info;
  info.flags = 0x0313;
  const ListedExport entry{.name = "", .info = info, .description = "", .contexts = {}};
  EXPECT_EQ(export_list_text(std::span(&entry, 1)),
            "exports available: 1\n export: ''\n  size:  0\n"
            "  flags: 0x313 ( readonly rotational multi resize )\n");
}

TEST(ExportList, LeavesOutWhatTheServerDoesNotTell) {
  const ListedExport entry{.name = "a", .info = {}, .description = "", .contexts = {}};
  EXPECT_EQ(export_list_text(std::span(&entry, 1)), "exports available: 1\n export: 'a'\n");
}

TEST(ExportList, LetsNoNameControlTheTerminal) {
  const ListedExport entry{.name = "a\x1b[2J\n", .info = {}, .description = "", .contexts = {}};
  EXPECT_EQ(export_list_text(std::span(&entry, 1)), "exports available: 1\n export: 'a?[2J?'\n");
}

}  // namespace
}  // namespace cairn::tools
