// OptionList: the older kind of option text.
#include "chardev/option_list.h"

#include <array>

#include <gtest/gtest.h>

namespace cairn::chardev {
namespace {

TEST(OptionList, SplitsAtCommasAndTakesTwoForOne) {
  const auto list = OptionList::parse("socket,id=m,path=a,,b.sock,server=on", "backend");
  EXPECT_EQ(*list.find("backend"), "socket");
  EXPECT_EQ(*list.find("path"), "a,b.sock");
  EXPECT_EQ(list.find("port"), nullptr);
  EXPECT_TRUE(list.warnings().empty());
}

TEST(OptionList, LetsTheLastValueCount) {
  EXPECT_EQ(*OptionList::parse("x,id=a,id=b", "backend").find("id"), "b");
}

TEST(OptionList, TakesNamesAloneForSwitchesAndWarns) {
  const auto list = OptionList::parse("socket,server,nowait", "backend");
  EXPECT_EQ(*list.find_switch("server"), true);
  EXPECT_EQ(*list.find_switch("wait"), false);
  ASSERT_EQ(list.warnings().size(), 2U);
  EXPECT_EQ(list.warnings()[1],
            "short-form boolean option 'nowait' deprecated\nPlease use wait=off instead");
}

TEST(OptionList, RefusesWhatIsNoSwitch) {
  const auto list = OptionList::parse("socket,server=maybe", "backend");
  EXPECT_EQ(list.find_switch("server").error().message(),
            "Parameter 'server' expects 'on' or 'off'");
}

TEST(OptionList, NamesAnUnknownOption) {
  constexpr std::array<std::string_view, 2> kKnown = {"backend", "id"};
  const auto list = OptionList::parse("null,id=m,bogus=1", "backend");
  EXPECT_EQ(list.check_names(kKnown).error().message(), "Invalid parameter 'bogus'");
}

}  // namespace
}  // namespace cairn::chardev
