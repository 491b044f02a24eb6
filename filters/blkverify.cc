#include "filters/blkverify.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "block/filename.h"
#include "block/graph.h"
#include "filters/filter_driver.h"
#include "io/buffer.h"
#include "io/task_group.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace {

// The "raw" child is the one that is shown; "test" is held against it.
class BlkverifyDriver final : public FilterDriver {
 public:
  BlkverifyDriver(block::Edge& raw, block::Edge& test) : FilterDriver(raw), test_(test) {}

  [[nodiscard]] uint64_t length() const override { return test_.length(); }

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    auto copy = io::AlignedBuffer::allocate(data.size());
    if (!copy) {
      co_return pass(copy);
    }
    Result<void> raw_outcome;
    Result<void> outcome;
    io::IoVector copy_vector(copy->data(), data.size());
    io::TaskGroup group;
    group.spawn(read_one(child(), offset, copy_vector, raw_outcome));
    group.spawn(read_one(test_, offset, data, outcome));
    co_await group.join();
    compare("read", offset, data.size(), outcome, raw_outcome);
    if (outcome) {
      auto tested = io::AlignedBuffer::allocate(data.size());
      if (!tested) {
        co_return pass(tested);
      }
      data.copy_to(0, tested->span());
      const auto bytes = tested->span();
      const auto differ = std::ranges::mismatch(bytes, copy->span());
      if (differ.in1 != bytes.end()) {
        end_program(fmt::format("read offset={} bytes={} contents mismatch at offset {}", offset,
                                data.size(),
                                offset + static_cast<uint64_t>(differ.in1 - bytes.begin())));
      }
    }
    co_return outcome;
  }

  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override {
    Result<void> raw_outcome;
    Result<void> outcome;
    io::TaskGroup group;
    group.spawn(write_one(child(), offset, data, flags, raw_outcome));
    group.spawn(write_one(test_, offset, data, flags, outcome));
    co_await group.join();
    compare("write", offset, data.size(), outcome, raw_outcome);
    co_return outcome;
  }

  // NOLINTBEGIN(bugprone-parent-virtual-call): FilterDriver would ask the child alone
  // Both ways of writing zeroes are to be tested by writing.
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override {
    return RequestDriver::write_zeroes(offset, length, flags);
  }
  // The two need not read the same afterwards.
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    return RequestDriver::discard(offset, length);
  }
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override {
    return RequestDriver::resize(length, options);
  }
  // NOLINTEND(bugprone-parent-virtual-call)
  // Only what is tested has to be durable.
  [[nodiscard]] io::Task<Result<void>> flush() override { return test_.flush(); }

 private:
  static io::Task<void> read_one(block::Edge& edge, uint64_t offset, io::IoVector data,
                                 Result<void>& outcome) {
    outcome = co_await edge.read(offset, std::move(data));
  }
  static io::Task<void> write_one(block::Edge& edge, uint64_t offset, io::IoVector data,
                                  block::WriteFlags flags, Result<void>& outcome) {
    outcome = co_await edge.write(offset, std::move(data), flags);
  }

  static void compare(std::string_view request, uint64_t offset, uint64_t length,
                      const Result<void>& test, const Result<void>& raw) {
    const int test_code = test ? 0 : test.error().code();
    const int raw_code = raw ? 0 : raw.error().code();
    if (test_code != raw_code) {
      end_program(fmt::format("{} offset={} bytes={} return value mismatch {} != {}", request,
                              offset, length, -test_code, -raw_code));
    }
  }

  [[noreturn]] static void end_program(const std::string& why) {
    std::fflush(stdout);
    fmt::print(stderr, "blkverify: {}\n", why);
    std::_Exit(EXIT_FAILURE);
  }

  block::Edge& test_;
};

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_blkverify(
    block::OpenContext& context, const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsBlkverify>(all_options.branch);
  const Result<block::Edge*> raw =
      co_await context.open_child("raw", options.raw, block::ChildRole::kFiltered);
  if (!raw) {
    co_return std::unexpected(raw.error());
  }
  const Result<block::Edge*> test =
      co_await context.open_child("test", options.test, block::ChildRole::kData);
  if (!test) {
    co_return std::unexpected(test.error());
  }
  co_return std::make_unique<BlkverifyDriver>(**raw, **test);
}

std::string blkverify_name(const block::Node& node, const schema::BlockdevOptions& /*options*/) {
  const std::string& raw = node.child("raw")->node().filename();
  const std::string& test = node.child("test")->node().filename();
  if (block::is_json_filename(raw) || block::is_json_filename(test)) {
    return {};
  }
  return fmt::format("blkverify:{}:{}", raw, test);
}

}  // namespace

const block::DriverInfo kBlkverifyDriver = {
    .name = "blkverify",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open_blkverify,
    .plain_name = blkverify_name,
    .can_reopen = false,
};

}  // namespace cairn::filters
