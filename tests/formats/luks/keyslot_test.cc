// Changing key slots: the rules. What power cuts and errors do to it is in crash_test.cc.
#include "tests/formats/luks/volume_world.h"

namespace cairn::luks {
namespace {

TEST(LuksKeyslots, AreAddedAndErased) {
  VolumeWorld volume;
  ASSERT_TRUE(volume.create()) << volume.error();
  ASSERT_TRUE(volume.open("first"));
  EXPECT_EQ(volume.add("second"), "");
  EXPECT_EQ(volume.states(), "11000000");
  EXPECT_EQ(
      volume.amend(
          {{"state", "active"}, {"new-secret", "third"}, {"iter-time", "0"}, {"keyslot", "6"}}),
      "");
  EXPECT_EQ(volume.states(), "11000010");
  volume.close();
  ASSERT_TRUE(volume.open("third"));
  EXPECT_EQ(volume.erase("first"), "");
  EXPECT_EQ(volume.states(), "01000010");
  volume.close();
  EXPECT_FALSE(volume.opens("first"));
  EXPECT_TRUE(volume.opens("second"));
}

TEST(LuksKeyslots, MistakesAreRefused) {
  VolumeWorld volume;
  ASSERT_TRUE(volume.create()) << volume.error();
  ASSERT_TRUE(volume.open("first"));
  EXPECT_EQ(volume.amend({{"keyslot", "1"}}), "Parameter 'state' is missing");
  EXPECT_EQ(volume.amend({{"state", "bogus"}}), "Parameter 'state' does not accept value 'bogus'");
  EXPECT_EQ(volume.amend({{"state", "active"}}), "'new-secret' is required to activate a keyslot");
  EXPECT_EQ(volume.amend({{"state", "active"}, {"new-secret", "x"}, {"old-secret", "y"}}),
            "'old-secret' must not be given when activating keyslots");
  EXPECT_EQ(volume.amend({{"state", "active"}, {"new-secret", "x"}, {"keyslot", "-1"}}),
            "Invalid keyslot 4294967295 specified, must be between 0 and 7");
  EXPECT_EQ(volume.amend({{"state", "active"}, {"new-secret", "x"}, {"keyslot", "0"}}),
            "Refusing to overwrite active keyslot 0 - please erase it first");
  EXPECT_EQ(volume.amend({{"state", "inactive"}}),
            "To erase keyslot(s), either explicit keyslot index or the password currently "
            "contained in them must be given");
  EXPECT_EQ(volume.amend({{"state", "inactive"}, {"keyslot", "3"}}),
            "Given keyslot 3 is already erased (inactive) ");
  EXPECT_EQ(volume.amend({{"state", "inactive"}, {"keyslot", "0"}, {"old-secret", "other"}}),
            "Given keyslot 0 doesn't contain the given old password for erase operation");
  EXPECT_EQ(volume.erase("other"), "No keyslots match given (old) password for erase operation");
  EXPECT_EQ(volume.erase("first"),
            "All the active keyslots match the (old) password that was given and erasing them "
            "will erase all the data in the image irreversibly - refusing operation");
  EXPECT_EQ(volume.amend({{"state", "inactive"}, {"keyslot", "0"}}),
            "Attempt to erase the only active keyslot 0 which will erase all the data in the image "
            "irreversibly - refusing operation");
  EXPECT_EQ(volume.states(), "10000000");
  for (int i = 1; i < 8; ++i) {
    EXPECT_EQ(volume.add("another"), "");
  }
  EXPECT_EQ(volume.add("another"), "Can't add a keyslot - all keyslots are in use");
  EXPECT_EQ(
      volume.amend({{"state", "active"}, {"new-secret", "x"}, {"keyslot", "5"}, {"iter-time", "0"}},
                   true),
      "");
  volume.close();
  EXPECT_TRUE(volume.opens("x"));
}

TEST(LuksKeyslots, TheLastOneCanBeErasedByForce) {
  VolumeWorld volume;
  ASSERT_TRUE(volume.create()) << volume.error();
  ASSERT_TRUE(volume.open("first"));
  EXPECT_EQ(volume.amend({{"state", "inactive"}, {"keyslot", "0"}}, true), "");
  EXPECT_EQ(volume.states(), "00000000");
  volume.close();
  EXPECT_FALSE(volume.opens("first"));
}

}  // namespace
}  // namespace cairn::luks
