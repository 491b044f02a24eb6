// Limits that go together, and those that do not.
#include "objects/throttle_group.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/objects/support.h"

namespace cairn::objects {
namespace {

std::string make(Registry& registry, const std::string& members) {
  return add(registry, "{'qom-type':'throttle-group','id':'g'" + members + "}");
}

TEST(ThrottleGroup, HasAllLimits) {
  Registry registry;
  EXPECT_EQ(make(registry, ",'x-iops-size':512,'x-iops-total':7,'limits':{'iops-total':100}"), "");
  const auto group = registry.find_as<ThrottleGroup>("g", "throttle group");
  EXPECT_EQ((*group)->limits().iops_total, 100);
  EXPECT_EQ((*group)->limits().bps_read_max_length, 1);
  EXPECT_EQ(get(registry, "g", "x-iops-size"), "512");
}

TEST(ThrottleGroup, ChangesWhatIsGivenAndAllOfItOrNothing) {
  Registry registry;
  make(registry, ",'limits':{'iops-total':100,'bps-read':4096}");
  EXPECT_EQ(set(registry, "g", "limits", "{'bps-read':8192}"), "");
  EXPECT_EQ(get(registry, "g", "x-bps-read"), "8192");
  EXPECT_EQ(get(registry, "g", "x-iops-total"), "100");
  EXPECT_EQ(set(registry, "g", "limits", "{'iops-total':5,'bps-total':1}"),
            "bps/iops/max total values and read/write values cannot be used at the same time");
  EXPECT_EQ(get(registry, "g", "x-iops-total"), "100");
  EXPECT_EQ(set(registry, "g", "limits", "5"),
            "Invalid parameter type for 'limits', expected: object");
  EXPECT_EQ(set(registry, "g", "x-iops-total", "5"), "Property cannot be set after initialization");
}

TEST(ThrottleGroup, SaysWhatDoesNotGoTogether) {
  const std::pair<const char*, const char*> cases[] = {
      {"'iops-total':10,'iops-read':5",
       "bps/iops/max total values and read/write values cannot be used at the same time"},
      {"'iops-total':10,'iops-total-max':10,'iops-write':5",
       "bps/iops/max total values and read/write values cannot be used at the same time"},
      {"'iops-total-max':5", "bps_max/iops_max require corresponding bps/iops values"},
      {"'iops-total':10,'iops-total-max':5", "bps_max/iops_max cannot be lower than bps/iops"},
      {"'bps-read':10,'bps-read-max':20,'bps-read-max-length':0", "the burst length cannot be 0"},
      {"'iops-total':10,'iops-total-max-length':5", "burst length set without burst rate"},
      {"'iops-total':1000,'iops-total-max':1000000000000000,'iops-total-max-length':100",
       "burst length too high for this burst rate"},
      {"'bps-total':-1", "bps/iops/max values must be within [0, 1000000000000000]"},
      {"'bps-total':1000000000000001", "bps/iops/max values must be within [0, 1000000000000000]"},
      {"'iops-size':4096", "iops size requires an iops value to be set"},
      {"'iops-total':1,'iops-size':-1",
       "iops-size value must be in the range [0, 9223372036854775807]"},
      {"'iops-total':1,'iops-total-max':2,'iops-total-max-length':5000000000",
       "iops-total-max-length value must be in the range [0, 4294967295]"},
      {"'nonsense':1", "Parameter 'limits.nonsense' is unexpected"},
  };
  for (const auto& [limits, message] : cases) {
    Registry registry;
    EXPECT_EQ(make(registry, std::string(",'limits':{") + limits + "}"), message) << limits;
  }
  Registry registry;
  EXPECT_EQ(make(registry, ",'x-bps-write':-1"), "Property values cannot be negative");
  EXPECT_EQ(make(registry, ",'x-bps-write-max-length':5000000000"),
            "x-bps-write-max-length value must be in the range [0, 4294967295]");
  EXPECT_EQ(registry.find("g"), nullptr);
}

}  // namespace
}  // namespace cairn::objects
