// Changing key slots: the rules, and that neither a power cut nor an error at any request costs a
// key that was there.
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "block/create_options.h"
#include "block/graph.h"
#include "formats/luks/create.h"
#include "formats/luks/luks.h"
#include "io/reactor.h"
#include "io/worker_pool.h"
#include "schema/types_block_info.h"
#include "schema/types_block_options.h"
#include "tests/support/sim_backend.h"
#include "tests/support/simulated_world.h"

namespace cairn::luks {
namespace {

using Options = std::map<std::string, std::string>;

// A world with one volume, "v", that the password of "first" opens.
class VolumeWorld {
 public:
  explicit VolumeWorld(uint64_t seed = 1)
      : world_(seed), reactor_(std::make_unique<testing::SimBackend>(seed)) {
    io::WorkerPool::keep_shared_work_inline();
    drivers_.add(testing::SimulatedWorld::driver());
    drivers_.add(kLuksDriver);
    graph_.set_secret_lookup(
        [](const std::string& name) -> Result<std::string> { return "password of " + name; });
    block::CreateOptions options(create_option_table());
    EXPECT_TRUE(options.set("size", "4096"));
    EXPECT_TRUE(options.set("key-secret", "first"));
    EXPECT_TRUE(options.set("iter-time", "0"));
    EXPECT_TRUE(options.set("cipher-alg", "aes-128"));
    EXPECT_TRUE(run(create_volume(graph_, "v", options)));
    EXPECT_TRUE(flush_all());
  }
  VolumeWorld(const VolumeWorld&) = delete;
  VolumeWorld& operator=(const VolumeWorld&) = delete;
  ~VolumeWorld() { close(); }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_.block_on(std::move(task));
  }
  testing::SimulatedWorld& world() { return world_; }

  bool open(const std::string& secret) {
    schema::BlockdevOptions file;
    file.driver = schema::BlockdevDriver::kFile;
    file.branch.emplace<schema::BlockdevOptionsFile>().filename = "v";
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kLuks;
    auto& luks = options.branch.emplace<schema::BlockdevOptionsLUKS>();
    luks.file.value = schema::Box<schema::BlockdevOptions>(file);
    luks.key_secret = secret;
    auto node = run(graph_.open(options));
    if (!node) {
      error_ = node.error().message();
      return false;
    }
    auto edge =
        graph_.attach(*node, "a test", {block::PermissionSet::all(), block::PermissionSet::all()});
    EXPECT_TRUE(edge);
    edge_ = std::move(*edge);
    return true;
  }
  void close() {
    if (edge_ != nullptr) {
      static_cast<void>(run(graph_.detach(std::move(edge_))));
      edge_.reset();
    }
  }
  bool opens(const std::string& secret) {
    const bool good = open(secret);
    close();
    return good;
  }

  // What went wrong; empty: nothing.
  std::string amend(const Options& wanted, bool force = false) {
    block::CreateOptions options(amend_option_table());
    for (const auto& [name, value] : wanted) {
      EXPECT_TRUE(options.set(name, value)) << name;
    }
    options.set_forced(force);
    const Result<void> amended = run(edge_->amend(options));
    return amended ? "" : amended.error().message();
  }
  std::string add(const std::string& secret) {
    return amend({{"state", "active"}, {"new-secret", secret}, {"iter-time", "0"}});
  }
  std::string erase(const std::string& secret) {
    return amend({{"state", "inactive"}, {"old-secret", secret}});
  }
  std::string states() {
    const auto info = run(edge_->node().driver().specific_info());
    std::string text;
    for (const auto& slot :
         std::get<schema::ImageInfoSpecificLUKSWrapper>((*info)->branch).data.slots) {
      text += slot.active ? '1' : '0';
    }
    return text;
  }

 private:
  Result<void> flush_all() {
    if (!open("first")) {
      return fail(EIO, "{}", error_);
    }
    const char byte = 0;
    Result<void> result = run(edge_->write(0, &byte, 1));
    if (result) {
      result = run(edge_->flush());
    }
    close();
    return result;
  }

  testing::SimulatedWorld world_;
  io::Reactor reactor_;
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  std::unique_ptr<block::Edge> edge_;
  std::string error_;
};

TEST(LuksKeyslots, AreAddedAndErased) {
  VolumeWorld volume;
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
  ASSERT_TRUE(volume.open("first"));
  EXPECT_EQ(volume.amend({{"state", "inactive"}, {"keyslot", "0"}}, true), "");
  EXPECT_EQ(volume.states(), "00000000");
  volume.close();
  EXPECT_FALSE(volume.opens("first"));
}

// A power cut at every request: the other key opens the volume in any case, and when the change had
// been acknowledged, it is there.
TEST(LuksKeyslots, APowerCutAtAnyTimeCostsNoOtherKey) {
  for (const bool adding : {true, false}) {
    for (uint64_t cut = 1;; ++cut) {
      VolumeWorld volume(cut);
      ASSERT_TRUE(volume.open("first"));
      if (!adding) {
        ASSERT_EQ(volume.add("second"), "");
      }
      volume.world().cut_power_at(cut);
      const std::string error = adding ? volume.add("second") : volume.erase("second");
      const bool ended = volume.world().powered();
      if (ended) {
        volume.world().cut_power();
      }
      volume.close();
      volume.world().restore_power();
      ASSERT_TRUE(volume.opens("first")) << adding << " " << cut;
      if (error.empty()) {
        ASSERT_EQ(volume.opens("second"), adding) << cut;
      }
      ASSERT_TRUE(volume.open("first"));
      ASSERT_EQ(volume.add("third"), "") << adding << " " << cut;
      volume.close();
      ASSERT_TRUE(volume.opens("third"));
      if (ended) {
        ASSERT_GT(cut, 3u);
        break;
      }
    }
  }
}

// The same with errors, after which the volume goes on being used.
TEST(LuksKeyslots, AnErrorAtAnyRequestCostsNoOtherKey) {
  for (const bool adding : {true, false}) {
    for (uint64_t after = 0;; ++after) {
      VolumeWorld volume;
      ASSERT_TRUE(volume.open("first"));
      if (!adding) {
        ASSERT_EQ(volume.add("second"), "");
      }
      volume.world().add_fault({.after = after, .error = EIO, .torn = after % 2 == 1});
      const std::string error = adding ? volume.add("second") : volume.erase("second");
      const bool hit = volume.world().faults() > 0;
      ASSERT_EQ(hit, !error.empty()) << after;
      volume.world().clear_faults();
      ASSERT_EQ(volume.add("third"), "") << adding << " " << after;
      volume.close();
      ASSERT_TRUE(volume.opens("first")) << adding << " " << after;
      ASSERT_TRUE(volume.opens("third")) << adding << " " << after;
      if (!hit) {
        ASSERT_GT(after, 3u);
        break;
      }
    }
  }
}

}  // namespace
}  // namespace cairn::luks
