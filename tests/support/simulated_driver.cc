// The protocol driver of a simulated world.
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <variant>

#include <fmt/format.h>

#include "base/bytes.h"
#include "block/create_options.h"
#include "block/graph.h"
#include "schema/types_block_options.h"
#include "tests/support/simulated_world.h"

namespace cairn::testing {

class SimulatedDriver final : public block::RequestDriver {
 public:
  SimulatedDriver(SimulatedWorld& world, SimulatedFile& file) : world_(world), file_(file) {}

  [[nodiscard]] uint64_t length() const override { return file_.disk.size(); }
  [[nodiscard]] block::Limits limits() const override { return file_.traits.limits; }
  [[nodiscard]] int64_t allocated_size() const override {
    return static_cast<int64_t>(file_.disk.visible().stored());
  }

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;

 private:
  // Ends a request, whatever way it goes.
  class Scope {
   public:
    explicit Scope(SimulatedWorld& world) : world_(world) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { world_.end(); }

   private:
    SimulatedWorld& world_;
  };

  void expect_legal(IoKind kind, uint64_t offset, uint64_t length, uint64_t alignment,
                    uint64_t most);
  [[nodiscard]] std::unexpected<Error> failed(IoKind kind, int error) const;
  // The rest of a change that was begun: time, fate, effect.
  [[nodiscard]] io::Task<Result<void>> carry_out(IoKind kind, SimulatedDisk::ChangeId id,
                                                 SimulatedWorld::Fate fate, bool durable);

  SimulatedWorld& world_;
  SimulatedFile& file_;
};

void SimulatedDriver::expect_legal(IoKind kind, uint64_t offset, uint64_t length,
                                   uint64_t alignment, uint64_t most) {
  const bool grows = kind == IoKind::kWrite || kind == IoKind::kZero;
  const uint64_t end = align_up(file_.disk.size(), std::max<uint64_t>(alignment, 512));
  if (length == 0 || (most != 0 && length > most) || !is_aligned(offset | length, alignment) ||
      offset > UINT64_MAX / 2 || (!grows && offset + length > end)) {
    world_.violate(fmt::format("{}: {} of {} bytes at {} breaks the driver's limits (size {})",
                               file_.name, to_string(kind), length, offset, file_.disk.size()));
  }
}

std::unexpected<Error> SimulatedDriver::failed(IoKind kind, int error) const {
  return fail_errno(error, "simulated {} of '{}'", to_string(kind), file_.name);
}

io::Task<Result<void>> SimulatedDriver::read(uint64_t offset, io::IoVector data) {
  expect_legal(IoKind::kRead, offset, data.size(), file_.traits.limits.request_alignment,
               file_.traits.limits.max_transfer);
  if (!data.is_aligned(file_.traits.limits.memory_alignment)) {
    world_.violate("a read into memory that is not aligned");
  }
  const auto fate = world_.begin(file_, IoKind::kRead, offset, data.size());
  const Scope scope(world_);
  data.fill(std::byte{0xa5});  // Nobody may look before the read is done.
  co_await world_.pass_time();
  if (!world_.powered() || fate.error != 0) {
    co_return failed(IoKind::kRead, fate.error != 0 ? fate.error : EIO);
  }
  std::vector<std::byte> bytes(data.size());
  file_.disk.read(offset, bytes);
  data.copy_from(0, bytes);
  co_await world_.pass_time();
  co_return Result<void>{};
}

io::Task<Result<void>> SimulatedDriver::write(uint64_t offset, io::IoVector data,
                                              block::WriteFlags flags) {
  expect_legal(IoKind::kWrite, offset, data.size(), file_.traits.limits.request_alignment,
               file_.traits.limits.max_transfer);
  if (!data.is_aligned(file_.traits.limits.memory_alignment)) {
    world_.violate("a write from memory that is not aligned");
  }
  const auto fate = world_.begin(file_, IoKind::kWrite, offset, data.size());
  const Scope scope(world_);
  std::vector<std::byte> bytes(data.size());
  data.copy_to(0, bytes);
  const SimulatedDisk::ChangeId id = file_.disk.begin_write(offset, bytes);
  const bool durable = flags.fua && file_.traits.limits.native_fua;
  Result<void> result = co_await carry_out(IoKind::kWrite, id, fate, durable);
  std::vector<std::byte> now(data.size());
  data.copy_to(0, now);
  if (now != bytes) {
    world_.violate(fmt::format("{}: memory changed under a write at {}", file_.name, offset));
  }
  co_return result;
}

io::Task<Result<void>> SimulatedDriver::carry_out(IoKind kind, SimulatedDisk::ChangeId id,
                                                  SimulatedWorld::Fate fate, bool durable) {
  co_await world_.pass_time();
  if (!world_.powered()) {
    co_return failed(kind, EIO);
  }
  if (fate.error != 0) {
    if (fate.torn) {
      file_.disk.apply_torn(id, world_.random_);
    } else {
      file_.disk.forget(id);
    }
    co_return failed(kind, fate.error);
  }
  file_.disk.apply(id);
  co_await world_.pass_time();
  if (!world_.powered()) {
    co_return failed(kind, EIO);
  }
  file_.disk.complete(id, durable && file_.traits.keeps_flush);
  co_return Result<void>{};
}

io::Task<Result<void>> SimulatedDriver::write_zeroes(uint64_t offset, uint64_t length,
                                                     block::ZeroFlags flags) {
  if (!file_.traits.can_zero) {
    co_return fail(ENOTSUP, "'{}' can not zero", file_.name);
  }
  const block::Limits& limits = file_.traits.limits;
  expect_legal(IoKind::kZero, offset, length, limits.zero_alignment, limits.max_zeroes);
  const auto fate = world_.begin(file_, IoKind::kZero, offset, length);
  const Scope scope(world_);
  const SimulatedDisk::ChangeId id = file_.disk.begin_zero(offset, length);
  co_return co_await carry_out(IoKind::kZero, id, fate, flags.fua && limits.native_fua);
}

io::Task<Result<void>> SimulatedDriver::discard(uint64_t offset, uint64_t length) {
  if (!file_.traits.can_discard) {
    co_return fail(ENOTSUP, "'{}' can not discard", file_.name);
  }
  const block::Limits& limits = file_.traits.limits;
  expect_legal(IoKind::kDiscard, offset, length, limits.discard_alignment, limits.max_discard);
  const auto fate = world_.begin(file_, IoKind::kDiscard, offset, length);
  const Scope scope(world_);
  const SimulatedDisk::ChangeId id = file_.disk.begin_zero(offset, length);
  co_return co_await carry_out(IoKind::kDiscard, id, fate, false);
}

io::Task<Result<void>> SimulatedDriver::flush() {
  const auto fate = world_.begin(file_, IoKind::kFlush, 0, 0);
  const Scope scope(world_);
  const std::vector<SimulatedDisk::ChangeId> changes = file_.disk.begin_flush();
  co_await world_.pass_time();
  if (!world_.powered() || fate.error != 0) {
    co_return failed(IoKind::kFlush, fate.error != 0 ? fate.error : EIO);
  }
  if (file_.traits.keeps_flush) {
    file_.disk.complete_flush(changes);
  }
  co_return Result<void>{};
}

io::Task<Result<void>> SimulatedDriver::resize(uint64_t length, block::ResizeOptions /*options*/) {
  const auto fate = world_.begin(file_, IoKind::kResize, length, 0);
  const Scope scope(world_);
  const SimulatedDisk::ChangeId id = file_.disk.begin_resize(length);
  co_return co_await carry_out(IoKind::kResize, id, fate, false);
}

io::Task<Result<block::BlockStatus>> SimulatedDriver::status(uint64_t offset, uint64_t length) {
  block::BlockStatus status{
      .length = length, .allocated = true, .host = node_, .host_offset = offset};
  if (offset >= file_.disk.size()) {
    status.zero = true;
    co_return status;
  }
  const SparseBytes::Run run = file_.disk.visible().run_at(offset);
  status.length = std::min(length, run.length);
  status.data = run.stored;
  status.zero = !run.stored;
  co_return status;
}

namespace {

io::Task<Result<std::unique_ptr<block::Driver>>> open_simulated(
    block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto* branch = std::get_if<schema::BlockdevOptionsFile>(&options.branch);
  assert(branch != nullptr);
  SimulatedWorld& world = SimulatedWorld::current();
  SimulatedFile* file = world.find(branch->filename);
  if (file == nullptr) {
    co_return fail_errno(ENOENT, "Could not open '{}'", branch->filename);
  }
  context.node().set_filename(branch->filename);
  co_return std::make_unique<SimulatedDriver>(world, *file);
}

io::Task<Result<void>> create_simulated(block::Graph& /*graph*/, std::string filename,
                                        const block::CreateOptions& options) {
  SimulatedWorld& world = SimulatedWorld::current();
  world.create(filename, options.number("size").value_or(0));
  co_return Result<void>{};
}

constexpr block::CreateOptionInfo kCreateOptions[] = {
    {.name = "size", .type = block::CreateOptionInfo::Type::kSize, .help = "length in bytes"},
};

constexpr block::DriverInfo kDriver{.name = "file",
                                    .kind = block::DriverInfo::Kind::kProtocol,
                                    .open = open_simulated,
                                    .create_options = kCreateOptions,
                                    .create = create_simulated};

}  // namespace

const block::DriverInfo& SimulatedWorld::driver() { return kDriver; }

}  // namespace cairn::testing
