// Names of NBD exports.
#include <variant>

#include <gtest/gtest.h>

#include "block/nbd_filename.h"
#include "schema/types_block_options.h"

namespace cairn::block {
namespace {

// As the engine shows it, or the error.
std::string shown(std::string_view filename) {
  EXPECT_TRUE(is_nbd_filename(filename)) << filename;
  const auto options = parse_nbd_filename(filename);
  return options ? nbd_filename(*options) : options.error().message();
}

TEST(NbdFilenameTest, EveryFormIsShownAsAUri) {
  EXPECT_EQ(shown("nbd+unix:///disk?socket=/a/b"), "nbd+unix:///disk?socket=/a/b");
  EXPECT_EQ(shown("nbd+unix:///?socket=s"), "nbd+unix://?socket=s");
  EXPECT_EQ(shown("nbd+unix://?socket=s"), "nbd+unix://?socket=s");
  EXPECT_EQ(shown("nbd:unix:/a/b:exportname=disk"), "nbd+unix:///disk?socket=/a/b");
  EXPECT_EQ(shown("nbd:unix:/a/b"), "nbd+unix://?socket=/a/b");
  EXPECT_EQ(shown("nbd://host"), "nbd://host:10809");
  EXPECT_EQ(shown("nbd://host:7/a%20b"), "nbd://host:7/a b");
  EXPECT_EQ(shown("nbd+tcp://host/x"), "nbd://host:10809/x");
  EXPECT_EQ(shown("nbd://[::1]:7/x"), "nbd://[::1]:7/x");
  EXPECT_EQ(shown("nbd:host:7:exportname=x"), "nbd://host:7/x");
  EXPECT_EQ(shown("nbd:[::1]:7"), "nbd://[::1]:7");
}

TEST(NbdFilenameTest, RefusesWhatIsNotWellFormed) {
  for (const char* bad :
       {"nbd://", "nbd+unix:///x", "nbd+unix://h/x?socket=s", "nbd+unix:///?foo=s",
        "nbd+unix:///?socket=", "nbd://host/%zz", "nbd://host/%4", "nbd://host/%00",
        "nbd://host/x?socket=s", "nbd://[::1/x", "nbd://[::1]x"}) {
    EXPECT_EQ(shown(bad), "No valid URL specified") << bad;
  }
  EXPECT_EQ(shown("nbd:"), "NBD server address missing");
  EXPECT_EQ(shown("nbd:localhost"), "error parsing address 'localhost'");
}

TEST(NbdFilenameTest, OtherNamesAreOthers) {
  EXPECT_FALSE(is_nbd_filename("nbds://host"));
  EXPECT_FALSE(is_nbd_filename("nbd"));
  EXPECT_FALSE(is_nbd_filename("dir/nbd:x"));
}

}  // namespace
}  // namespace cairn::block
