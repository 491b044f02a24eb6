// FilterStackTest: two disks alike, a model and one under test, each a raw node over a format over
// a file; and filters that change nothing, which come and go above and below the format of the one
// under test while requests are on their way.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "block/graph_edit.h"
#include "filters/blkdebug/blkdebug.h"
#include "filters/blklogwrites/blklogwrites.h"
#include "filters/blkreplay.h"
#include "filters/chaos/chaos.h"
#include "filters/copy_before_write.h"
#include "formats/luks/luks.h"
#include "formats/vmdk/vmdk.h"
#include "tests/filters/filter_test.h"
#include "tests/support/random.h"

namespace cairn::filters {

enum class StackFormat { kRaw, kQcow2, kQcow2Overlay, kLuks, kVmdk };

class FilterStackTest : public FilterTest {
 protected:
  static constexpr uint64_t kStackClusters = 24;
  static constexpr uint64_t kStackLength = kStackClusters * kCluster;
  static constexpr std::size_t kMostAbove = 8;
  static constexpr std::size_t kMostBelow = 2;

  FilterStackTest(StackFormat format, uint64_t seed)
      : FilterTest(seed), random_(seed), format_(format) {
    for (const block::DriverInfo* driver :
         {&kBlkdebugDriver, &kBlklogwritesDriver, &kBlkreplayDriver, &kChaosDriver,
          &kCopyBeforeWriteDriver, &luks::kLuksDriver, &vmdk::kVmdkDriver}) {
      drivers_.add(*driver);
    }
    graph_.set_secret_lookup(
        [](const std::string& name) -> Result<std::string> { return "password of " + name; });
  }

  void SetUp() override {
    throttles_["free"] = std::make_shared<io::Throttle>();
    throttles_["limited"] = std::make_shared<io::Throttle>();
    throttles_["limited"]->set({.requests = {.total = {.average = 20000}}});
    for (const std::string side : {"model", "test"}) {
      make_disk(side);
    }
    model_ = &attach("model", kOwner);
    test_ = &attach("test", kOwner);
  }

  // Puts a filter somewhere, or takes one out: by reopening its parent where that can be done, or
  // as jobs do it.
  io::Task<void> change_filters() {
    const bool above = random_.chance(70);
    std::vector<Stacked>& stack = above ? above_ : below_;
    const bool put =
        stack.size() < (above ? kMostAbove : kMostBelow) && (stack.empty() || random_.chance(75));
    const std::size_t at = random_.below(put ? stack.size() + 1 : stack.size());
    if (put) {
      co_await put_filter(above, at);
    } else {
      co_await take_filter(above, at);
    }
  }
  [[nodiscard]] std::size_t depth() const { return above_.size(); }
  // "throttle,blkreplay|blkdebug": from the top down, with the format in the middle.
  [[nodiscard]] std::string stack_text() const {
    std::string text;
    for (const bool above : {true, false}) {
      for (const Stacked& stacked : above ? above_ : below_) {
        text += stacked.kind;
        text += ',';
      }
      text += above ? "|" : "";
    }
    return text;
  }
  // What is saved of a disk has the disk's length.
  void leave_out_copy_before_write() { saves_ = false; }

  testing::Random random_;
  block::Edge* model_ = nullptr;
  block::Edge* test_ = nullptr;

 private:
  struct Stacked {
    std::string name;
    std::string kind;
    schema::BlockdevOptions options;  // with what it was put in above
    std::string side_node = {};       // beside the filtered one
  };

  static schema::BlockdevOptions luks(std::string name, std::string below) {
    schema::BlockdevOptionsLUKS branch;
    branch.file = to(std::move(below));
    branch.key_secret = "s";
    return make(schema::BlockdevDriver::kLuks, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions vmdk(std::string name, std::string below) {
    schema::BlockdevOptionsGenericCOWFormat branch;
    branch.file = to(std::move(below));
    return make(schema::BlockdevDriver::kVmdk, std::move(name), std::move(branch));
  }

  void create(const block::DriverInfo& driver, const std::string& name,
              const std::vector<std::pair<std::string, std::string>>& more) {
    block::CreateOptions options(driver.create_options);
    ASSERT_TRUE(options.set("size", std::to_string(kStackLength)).has_value());
    for (const auto& [key, value] : more) {
      ASSERT_TRUE(options.set(key, value).has_value()) << key;
    }
    world_.create(name, 0);
    auto created = run(driver.create(graph_, name, options));
    ASSERT_TRUE(created.has_value()) << created.error().message();
  }

  void create_disk(const std::string& name) {
    switch (format_) {
      case StackFormat::kRaw:
        world_.create(name, kStackLength);
        break;
      case StackFormat::kQcow2:
      case StackFormat::kQcow2Overlay:
        create(qcow2::kQcow2Driver, name, {});
        break;
      case StackFormat::kLuks:
        create(luks::kLuksDriver, name,
               {{"key-secret", "s"}, {"iter-time", "0"}, {"cipher-alg", "aes-128"}});
        break;
      case StackFormat::kVmdk:
        create(vmdk::kVmdkDriver, name, {});
        break;
    }
  }
  // The second disk is a copy of the first: two volumes never have the same key.
  void make_disk(const std::string& side) {
    const std::string name = side + ".img";
    if (side == "test") {
      world_.add(name, world_.find("model.img")->disk.visible());
    } else {
      create_disk(name);
    }
    ASSERT_EQ(add(file(side + "-file", name)), "");
    if (format_ == StackFormat::kQcow2Overlay) {
      create(qcow2::kQcow2Driver, side + "-base.img", {});
      ASSERT_EQ(add(file(side + "-base-file", side + "-base.img")), "");
      ASSERT_EQ(add(qcow2(side + "-base", side + "-base-file")), "");
      block::Edge& base = attach(side + "-base");
      ASSERT_EQ(write(base, 9, 0, kStackLength / 2), "");
      detach(base);
    }
    ASSERT_EQ(add(format_over(side, side + "-file")), "");
    ASSERT_EQ(add(raw(side, side + "-format")), "");
  }

  [[nodiscard]] schema::BlockdevOptions format_over(const std::string& side,
                                                    std::string below) const {
    const std::string name = side + "-format";
    switch (format_) {
      case StackFormat::kRaw:
        return raw(name, std::move(below));
      case StackFormat::kQcow2:
        return qcow2(name, std::move(below));
      case StackFormat::kQcow2Overlay:
        return qcow2(name, std::move(below), side + "-base");
      case StackFormat::kLuks:
        return luks(name, std::move(below));
      case StackFormat::kVmdk:
        return vmdk(name, std::move(below));
    }
    return {};
  }

  [[nodiscard]] std::string pick_kind(bool above) {
    std::vector<std::string> kinds{"throttle",  "throttle", "blkdebug",
                                   "blkreplay", "chaos",    "blklogwrites"};
    // What is copied on read changes what is allocated, where there are holes.
    if (above && (format_ == StackFormat::kRaw || format_ == StackFormat::kLuks)) {
      kinds.emplace_back("copy-on-read");
    }
    // It keeps to the length that the disk has at first, and a format's file grows.
    if (above && saves_) {
      kinds.emplace_back("copy-before-write");
    }
    if (!above) {
      kinds.emplace_back("preallocate");
    }
    return kinds[random_.below(kinds.size())];
  }

  // A filter over the node `below`; what it has on its side is made.
  io::Task<Stacked> make_filter(bool above, std::string below) {
    using Driver = schema::BlockdevDriver;
    Stacked made{
        .name = "filter" + std::to_string(++made_), .kind = pick_kind(above), .options = {}};
    if (made.kind == "copy-before-write" || made.kind == "blklogwrites") {
      made.side_node = made.name + "-side";
      world_.create(made.side_node, made.kind == "blklogwrites" ? 0 : kStackLength);
      auto side = co_await graph_.add_monitor_node(file(made.side_node, made.side_node));
      EXPECT_TRUE(side.has_value());
    }
    if (made.kind == "throttle") {
      made.options = throttle(made.name, below, random_.chance(70) ? "free" : "limited");
    } else if (made.kind == "blkdebug") {
      schema::BlockdevOptionsBlkdebug branch;
      branch.image = to(below);
      made.options = make(Driver::kBlkdebug, made.name, std::move(branch));
    } else if (made.kind == "blkreplay") {
      schema::BlockdevOptionsBlkreplay branch;
      branch.image = to(below);
      made.options = make(Driver::kBlkreplay, made.name, std::move(branch));
    } else if (made.kind == "chaos") {
      schema::BlockdevOptionsChaos branch;
      branch.file = to(below);
      made.options = make(Driver::kChaos, made.name, std::move(branch));
    } else if (made.kind == "blklogwrites") {
      schema::BlockdevOptionsBlklogwrites branch;
      branch.file = to(below);
      branch.log = to(made.side_node);
      made.options = make(Driver::kBlklogwrites, made.name, std::move(branch));
    } else if (made.kind == "copy-before-write") {
      schema::BlockdevOptionsCbw branch;
      branch.file = to(below);
      branch.target = to(made.side_node);
      branch.on_cbw_error = schema::OnCbwError::kBreakSnapshot;
      made.options = make(Driver::kCopyBeforeWrite, made.name, std::move(branch));
    } else if (made.kind == "copy-on-read") {
      made.options = copy_on_read(made.name, below);
    } else {
      made.options = preallocate(made.name, below);
    }
    co_return made;
  }

  // The node that stands on place `at` of a stack, or what the stack stands on.
  [[nodiscard]] std::string node_at(bool above, std::size_t at) const {
    const std::vector<Stacked>& stack = above ? above_ : below_;
    return at < stack.size() ? stack[at].name : above ? "test-format" : "test-file";
  }

  io::Task<void> put_filter(bool above, std::size_t at) {
    const std::string below = node_at(above, at);
    Stacked made = co_await make_filter(above, below);
    auto added = co_await graph_.add_monitor_node(made.options);
    EXPECT_TRUE(added.has_value()) << made.kind << ": " << added.error().message();
    const std::string name = made.name;
    if (can_reopen_parent(above, at) && random_.chance(50)) {
      co_await reopen_parent(above, at, name);
    } else {
      const auto alone = co_await graph_.alone();
      block::GraphEdit edit(graph_);
      edit.insert_above(graph_.find(below), graph_.find(name));
      co_await settle(edit);
    }
    std::vector<Stacked>& stack = above ? above_ : below_;
    stack.insert(stack.begin() + static_cast<std::ptrdiff_t>(at), std::move(made));
  }

  io::Task<void> take_filter(bool above, std::size_t at) {
    std::vector<Stacked>& stack = above ? above_ : below_;
    const Stacked gone = stack[at];
    const std::string below = node_at(above, at + 1);
    if (can_reopen_parent(above, at) && random_.chance(50)) {
      co_await reopen_parent(above, at, below);
    } else {
      const auto alone = co_await graph_.alone();
      block::GraphEdit edit(graph_);
      edit.bypass_filter(graph_.find(gone.name));
      co_await settle(edit);
    }
    stack.erase(stack.begin() + static_cast<std::ptrdiff_t>(at));
    for (const std::string& node : {gone.name, gone.side_node}) {
      if (!node.empty()) {
        auto removed = co_await graph_.remove_monitor_node(node);
        EXPECT_TRUE(removed.has_value()) << gone.kind << ": " << removed.error().message();
      }
    }
  }

  static io::Task<void> settle(block::GraphEdit& edit) {
    auto prepared = edit.prepare();
    EXPECT_TRUE(prepared.has_value()) << prepared.error().message();
    auto committed = co_await edit.commit();
    EXPECT_TRUE(committed.has_value()) << committed.error().message();
  }

  // The parent of place `at`, as far as tests know its options.
  [[nodiscard]] bool can_reopen_parent(bool above, std::size_t at) const {
    return at == 0 || (above ? above_ : below_)[at - 1].kind == "throttle";
  }
  io::Task<void> reopen_parent(bool above, std::size_t at, std::string target) {
    std::vector<schema::BlockdevOptions> wanted;
    if (at == 0) {
      wanted.push_back(above ? raw("test", target) : format_over("test", target));
    } else {
      Stacked& parent = (above ? above_ : below_)[at - 1];
      std::get<schema::BlockdevOptionsThrottle>(parent.options.branch).file = to(target);
      wanted.push_back(parent.options);
    }
    auto reopened = co_await reopen_alone(std::move(wanted));
    EXPECT_TRUE(reopened.has_value()) << reopened.error().message();
  }

  const StackFormat format_;
  std::vector<Stacked> above_;  // the topmost first
  std::vector<Stacked> below_;
  bool saves_ = true;
  uint64_t made_ = 0;
};

}  // namespace cairn::filters
