// Who may come in.
#include "objects/authz.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/objects/support.h"

namespace cairn::objects {
namespace {

std::string check(const Registry& registry, std::string_view id, std::string_view identity) {
  const auto authorizer = registry.find_as<Authorizer>(id, "authorization object");
  const auto checked = (*authorizer)->check(identity);
  return checked ? "" : checked.error().message();
}

TEST(Authz, SimpleLetsOneIn) {
  Registry registry;
  EXPECT_EQ(add(registry, "{'qom-type':'authz-simple','id':'a'}"),
            "Parameter 'identity' is missing");
  add(registry, "{'qom-type':'authz-simple','id':'a','identity':'fred'}");
  EXPECT_EQ(check(registry, "a", "fred"), "");
  EXPECT_EQ(check(registry, "a", "fre"), "'fre' is not authorized");
  EXPECT_EQ(set(registry, "a", "identity", "'joe'"), "");
  EXPECT_EQ(check(registry, "a", "joe"), "");
}

TEST(Authz, TheFirstRuleThatFitsCounts) {
  Registry registry;
  add(registry,
      "{'qom-type':'authz-list','id':'a','rules':["
      "{'match':'CN=bob','policy':'deny'},"
      "{'match':'CN=b*','policy':'allow','format':'glob'},"
      "{'match':'CN=c*','policy':'allow','format':'exact'}]}");
  EXPECT_EQ(check(registry, "a", "CN=bill"), "");
  EXPECT_EQ(check(registry, "a", "CN=bob"), "'CN=bob' is not authorized");
  EXPECT_EQ(check(registry, "a", "CN=carl"), "'CN=carl' is not authorized");
  EXPECT_EQ(check(registry, "a", "CN=c*"), "");
  EXPECT_EQ(set(registry, "a", "policy", "'allow'"), "");
  EXPECT_EQ(check(registry, "a", "CN=dora"), "");
  EXPECT_EQ(set(registry, "a", "rules", "[{'policy':'deny'}]"),
            "Parameter 'rules[0].match' is missing");
  EXPECT_EQ(set(registry, "a", "rules", "[]"), "");
  EXPECT_EQ(check(registry, "a", "CN=bob"), "");
}

class AuthzListFileTest : public ::testing::Test {
 public:
  ~AuthzListFileTest() override { std::filesystem::remove(path_); }

 protected:
  void write(std::string_view text) const {
    // As editors do it: a new file in the place of the old one.
    std::ofstream(path_ + ".new") << text;
    std::filesystem::rename(path_ + ".new", path_);
  }
  std::string make(const std::string& more = "") {
    return add(registry_,
               "{'qom-type':'authz-listfile','id':'a','filename':'" + path_ + "'" + more + "}");
  }
  std::string path_ =
      (std::filesystem::temp_directory_path() / ("cairn-authz-" + std::to_string(getpid())))
          .string();
  Registry registry_;
};

constexpr const char* kAlice = R"({"rules": [{"match": "alice", "policy": "allow"}]})";
constexpr const char* kEverybody = R"({"policy": "allow"})";

TEST_F(AuthzListFileTest, IsReadAgainWhenItChanges) {
  write(kAlice);
  EXPECT_EQ(make(), "");
  EXPECT_EQ(check(registry_, "a", "alice"), "");
  EXPECT_EQ(check(registry_, "a", "bob"), "'bob' is not authorized");
  write(kEverybody);
  EXPECT_EQ(check(registry_, "a", "bob"), "");
  std::filesystem::remove(path_);
  EXPECT_EQ(check(registry_, "a", "bob"),
            "Unable to read '" + path_ + "': No such file or directory");
  write(kAlice);
  EXPECT_EQ(check(registry_, "a", "alice"), "");
}

TEST_F(AuthzListFileTest, IsReadOnceWhenThatIsWanted) {
  write(kAlice);
  EXPECT_EQ(make(",'refresh':false"), "");
  std::filesystem::remove(path_);
  EXPECT_EQ(check(registry_, "a", "alice"), "");
}

TEST_F(AuthzListFileTest, SaysWhatIsWrongInIt) {
  EXPECT_EQ(make(), "Unable to read '" + path_ + "': No such file or directory");
  const std::pair<const char*, const char*> cases[] = {
      {"{", "JSON parse error, premature EOI"},
      {"[]", "Invalid parameter type, expected: object"},
      {"{\"policy\": \"maybe\"}", "Parameter 'policy' does not accept value 'maybe'"},
  };
  for (const auto& [text, message] : cases) {
    write(text);
    const std::string refused = make();
    EXPECT_EQ(refused.find("Unable to parse '" + path_ + "': "), 0U) << refused;
  }
}

}  // namespace
}  // namespace cairn::objects
