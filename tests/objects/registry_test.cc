// Objects that come and go, event loops and credentials among them.
#include "objects/registry.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>

#include <gtest/gtest.h>

#include "objects/event_loop.h"
#include "objects/tls_creds.h"
#include "objects/types.h"
#include "tests/objects/support.h"

namespace cairn::objects {
namespace {

TEST(ObjectRegistry, KnowsObjectsById) {
  Registry registry;
  EXPECT_EQ(add(registry, "{'qom-type':'authz-simple','id':'a','identity':'x'}"), "");
  EXPECT_EQ(add(registry, "{'qom-type':'secret','id':'a','data':'x'}"),
            "attempt to add duplicate property 'a' to object (type 'container')");
  for (const char* id : {"", "7up", "a b"}) {
    EXPECT_EQ(add(registry, std::string("{'qom-type':'secret','data':'x','id':'") + id + "'}"),
              "Parameter 'id' expects an identifier");
  }
  EXPECT_EQ(add(registry, "{'qom-type':'unicorn','id':'u'}"),
            "Parameter 'qom-type' does not accept value 'unicorn'");
  EXPECT_TRUE(registry.remove("a").has_value());
  EXPECT_EQ(registry.remove("a").error().message(), "object 'a' not found");
}

TEST(ObjectRegistry, TellsWrongTypesFromMissingObjects) {
  Registry registry;
  add(registry, "{'qom-type':'authz-simple','id':'a','identity':'x'}");
  EXPECT_EQ(registry.find_as<TlsCreds>("a", "TLS credentials").error().message(),
            "Object with id 'a' is not a TLS credentials");
  EXPECT_EQ(registry.find_as<TlsCreds>("b", "TLS credentials").error().message(),
            "No TLS credentials with id 'b'");
}

TEST(ObjectTypes, ArePartOfOneTree) {
  EXPECT_TRUE(find_type("authz-list")->is_a("authz"));
  EXPECT_TRUE(find_type("authz-list")->is_a("user-creatable"));
  EXPECT_TRUE(find_type("tls-creds-psk")->is_a("object"));
  EXPECT_FALSE(find_type("container")->is_a("user-creatable"));
  EXPECT_FALSE(find_type("secret")->is_a("authz"));
  EXPECT_EQ(find_type("unicorn"), nullptr);
  for (const Type* type : all_types()) {
    EXPECT_EQ(find_type(type->name), type);
    EXPECT_EQ(type->interface, type->find_property("type") == nullptr) << type->name;
  }
}

TEST(ObjectTypes, CoverEverythingThatCanBeMade) {
  for (const std::string_view name : enum_names(schema::ObjectType{})) {
    EXPECT_TRUE(std::ranges::any_of(all_types(), [&](const Type* type) {
      return type->option == name;
    })) << name;
  }
}

class Flag final : public io::RemoteWork {
 public:
  void run() override { ran.set_value(std::this_thread::get_id()); }
  std::promise<std::thread::id> ran;
};

TEST(Iothread, RunsAReactorOnAThreadOfItsOwn) {
  Registry registry;
  EXPECT_EQ(add(registry, "{'qom-type':'iothread','id':'io'}"), "");
  Flag flag;
  (*registry.find_as<Iothread>("io", "iothread"))->reactor().post(flag);
  EXPECT_NE(flag.ran.get_future().get(), std::this_thread::get_id());
  EXPECT_TRUE(registry.remove("io").has_value());
}

TEST(Iothread, StaysWhileSomebodyHasTasksThere) {
  Registry registry;
  EXPECT_EQ(add(registry, "{'qom-type':'iothread','id':'io'}"), "");
  auto user = (*registry.find_as<Iothread>("io", "iothread"))->share();
  const auto refused = registry.remove("io");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message(), "object 'io' is in use, can not be deleted");
  user.reset();
  EXPECT_TRUE(registry.remove("io").has_value());
}

TEST(Iothread, ChecksItsNumbers) {
  Registry registry;
  const std::string head = "{'qom-type':'iothread','id':'io',";
  EXPECT_EQ(add(registry, head + "'poll-grow':-3}"),
            "poll-grow value must be in range [0, 9223372036854775807]");
  EXPECT_EQ(add(registry, head + "'thread-pool-min':9,'thread-pool-max':5}"),
            "bad thread-pool-min/thread-pool-max values");
  EXPECT_EQ(add(registry, head + "'thread-pool-max':0}"),
            "bad thread-pool-min/thread-pool-max values");
  EXPECT_EQ(add(registry, head + "'thread-pool-min':65}"),
            "bad thread-pool-min/thread-pool-max values");
  EXPECT_EQ(add(registry, head + "'thread-pool-min':65,'thread-pool-max':65}"), "");
  EXPECT_EQ(get(registry, "io", "poll-max-ns"), "32768");
  EXPECT_EQ(set(registry, "io", "poll-max-ns", "0"), "");
  EXPECT_EQ(get(registry, "io", "poll-max-ns"), "0");
  EXPECT_EQ(set(registry, "io", "poll-max-ns", "'fast'"),
            "Invalid parameter type for 'poll-max-ns', expected: integer");
  EXPECT_EQ(set(registry, "io", "thread-pool-max", "64"),
            "bad thread-pool-min/thread-pool-max values");
  EXPECT_EQ(get(registry, "io", "thread-pool-max"), "65");
}

TEST(MainLoop, IsThereOnceAndStays) {
  Registry registry;
  EXPECT_EQ(add(registry, "{'qom-type':'main-loop','id':'ml','aio-max-batch':4}"), "");
  EXPECT_EQ(add(registry, "{'qom-type':'main-loop','id':'ml2'}"),
            "only one main-loop instance allowed");
  EXPECT_EQ(registry.remove("ml").error().message(), "object 'ml' is in use, can not be deleted");
}

class PskTest : public ::testing::Test {
 protected:
  PskTest() {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-objects-XXXXXX").string();
    dir_ = mkdtemp(name.data());
  }

 public:
  ~PskTest() override { std::filesystem::remove_all(dir_); }

 protected:
  std::string make(const std::string& more) {
    return add(registry_,
               "{'qom-type':'tls-creds-psk','id':'p','dir':'" + dir_.string() + "'" + more + "}");
  }
  std::filesystem::path dir_;
  Registry registry_;
};

TEST_F(PskTest, AClientHasAKeyAndAServerAFile) {
  const std::string file = (dir_ / "keys.psk").string();
  EXPECT_EQ(add(registry_, "{'qom-type':'tls-creds-psk','id':'p'}"),
            "Missing 'dir' property value");
  EXPECT_EQ(make(""), "Unable to access credentials " + file + ": No such file or directory");
  std::ofstream(file) << "alice:00fF\nbob:0g\neve:abc\n";
  EXPECT_EQ(make(""), "Username qemu not found in PSK file " + file);
  EXPECT_EQ(make(",'username':'bob'"), "A key in PSK file " + file + " is not in hexadecimal");
  EXPECT_EQ(make(",'username':'eve'"), "A key in PSK file " + file + " is not in hexadecimal");
  EXPECT_EQ(make(",'endpoint':'server','username':'alice'"),
            "username should not be set when endpoint=server");
  EXPECT_EQ(make(",'username':'alice'"), "");
  EXPECT_EQ((*registry_.find_as<TlsCredsPsk>("p", "x"))->find_key("alice").value(),
            std::string("\0\xff", 2));
}

TEST_F(PskTest, AnonymousCredentialsNeedNoFiles) {
  EXPECT_EQ(add(registry_, "{'qom-type':'tls-creds-anon','id':'a','endpoint':'server'}"), "");
  std::ofstream(dir_ / "dh-params.pem") << "junk";
  const std::string refused =
      add(registry_, "{'qom-type':'tls-creds-anon','id':'b','endpoint':'server','dir':'" +
                         dir_.string() + "'}");
  EXPECT_EQ(refused.find("Unable to load DH parameters from "), 0U) << refused;
}

TEST(FindCredentials, ByIdOrByDescription) {
  Registry registry;
  add(registry, "{'qom-type':'tls-creds-anon','id':'a','endpoint':'server'}");
  add(registry, "{'qom-type':'secret','id':'s','data':'x'}");
  const auto find = [&registry](const std::string& name, bool server) {
    const auto found = find_credentials(registry, name, server);
    return found ? std::string((*found)->for_server() ? "server" : "client")
                 : found.error().message();
  };
  EXPECT_EQ(find("a", true), "server");
  EXPECT_EQ(find("a", false), "Expected TLS credentials for a client endpoint");
  EXPECT_EQ(find("b", true), "No TLS credentials with id 'b'");
  EXPECT_EQ(find("s", true), "Object with id 's' is not TLS credentials");
  EXPECT_EQ(find(R"(json:{"qom-type": "tls-creds-anon"})", false), "client");
  EXPECT_EQ(find(R"(json:{"qom-type": "tls-creds-anon"})", true),
            "Expected TLS credentials for a server endpoint");
  EXPECT_EQ(find(R"(json:{"qom-type": "secret", "data": "x"})", false),
            "What describes TLS credentials is of another type");
  EXPECT_EQ(find("json:[]", false), "TLS credentials: a JSON object is expected");
  EXPECT_TRUE(find("json:{", false).starts_with("TLS credentials: "));
  EXPECT_EQ(registry.all().size(), 2U);
}

TEST_F(PskTest, X509SaysWhatIsMissing) {
  EXPECT_EQ(add(registry_, "{'qom-type':'tls-creds-x509','id':'x'}"),
            "Missing 'dir' property value");
  EXPECT_EQ(add(registry_, "{'qom-type':'tls-creds-x509','id':'x','passwordid':'no','dir':'" +
                               dir_.string() + "'}"),
            "No secret with id 'no'");
  EXPECT_EQ(add(registry_, "{'qom-type':'tls-creds-x509','id':'x','dir':'" + dir_.string() + "'}"),
            "Unable to access credentials " + (dir_ / "ca-cert.pem").string() +
                ": No such file or directory");
}

}  // namespace
}  // namespace cairn::objects
