// Secrets, as they are written and as they are.
#include "objects/secret.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "objects/types.h"
#include "tests/objects/support.h"

namespace cairn::objects {
namespace {

std::string bytes(const Registry& registry, std::string_view id) {
  const auto found = find_secret(registry, id);
  return found ? *found : found.error().message();
}

TEST(Secret, IsTextOrBase64OrAFile) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("cairn-secret-" + std::to_string(getpid()));
  std::ofstream(file) << "aHVudGVyMg==\n";
  Registry registry;
  EXPECT_EQ(add(registry, "{'qom-type':'secret','id':'a','data':'hunter2'}"), "");
  EXPECT_EQ(add(registry,
                "{'qom-type':'secret','id':'b','format':'base64','file':'" + file.string() + "'}"),
            "");
  EXPECT_EQ(bytes(registry, "a"), "hunter2");
  EXPECT_EQ(bytes(registry, "b"), "hunter2");
  EXPECT_EQ(bytes(registry, "c"), "No secret with id 'c'");
  std::filesystem::remove(file);
  EXPECT_EQ(add(registry, "{'qom-type':'secret','id':'d','file':'" + file.string() + "'}"),
            "Unable to read " + file.string() + ": No such file or directory");
  EXPECT_EQ(add(registry, "{'qom-type':'secret','id':'d','file':'/dev/zero'}"),
            "Unable to read /dev/zero: a secret has at most 1048576 bytes");
}

TEST(Secret, IsDecryptedWithAnother) {
  Registry registry;
  const std::string key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
  add(registry, "{'qom-type':'secret','id':'k','format':'base64','data':'" + key + "'}");
  const std::string iv = "'iv':'AAAAAAAAAAAAAAAAAAAAAA=='";
  const std::string head = "{'qom-type':'secret','id':'s','keyid':'k','format':'base64',";
  EXPECT_EQ(add(registry, head + "'data':'Gz1wEznXi0USYdSH8jGzaw=='}"),
            "IV is required to decrypt secret");
  EXPECT_EQ(add(registry, head + "'data':'Gz1wEznXi0USYdSH8jGzaw==','iv':'AAAA'}"),
            "IV should be 16 bytes in length not 3");
  EXPECT_EQ(add(registry, head + "'data':'Gz1wEznXi0USYdSH8jGzaw==','iv':'***'}"),
            "Base64 data contains invalid characters");
  EXPECT_EQ(add(registry, head + "'data':'AAAA'," + iv + "}"),
            "Length 3 must be a multiple of block size 16");
  EXPECT_EQ(add(registry, head + "'data':'Gz1wEznXi0USYdSH8jGzaw=='," + iv + "}"), "");
  EXPECT_EQ(bytes(registry, "s"), "hunter2");
  EXPECT_EQ(add(registry, "{'qom-type':'secret','id':'t','data':'x','keyid':'s'}"),
            "Key should be 32 bytes in length");
  EXPECT_EQ(add(registry, "{'qom-type':'secret','id':'t','data':'x','keyid':'none'}"),
            "No secret with id 'none'");
}

TEST(Secret, IsReadOnce) {
  Registry registry;
  add(registry, "{'qom-type':'secret','id':'a','data':'x'}");
  EXPECT_EQ(set(registry, "a", "data", "'y'"), "");
  EXPECT_EQ(get(registry, "a", "data"), "\"y\"");
  EXPECT_EQ(bytes(registry, "a"), "x");
  EXPECT_EQ(set(registry, "a", "format", "'hex'"),
            "Parameter 'format' does not accept value 'hex'");
  EXPECT_EQ(get(registry, "a", "format"), "\"raw\"");
  EXPECT_EQ(find_type("secret")->find_property("loaded")->set, nullptr);
}

TEST(Secret, InTheKeyringIsNamedByItsNumber) {
  Registry registry;
  const std::string refused = add(registry, "{'qom-type':'secret_keyring','id':'a','serial':1}");
  EXPECT_EQ(refused.find("Unable to read serial key 00000001: "), 0U) << refused;
  EXPECT_EQ(add(registry, "{'qom-type':'secret_keyring','id':'a','serial':0}"),
            "'serial' should not be equal to 0");
  EXPECT_EQ(add(registry, "{'qom-type':'secret_keyring','id':'a'}"),
            "Parameter 'serial' is missing");
}

}  // namespace
}  // namespace cairn::objects
